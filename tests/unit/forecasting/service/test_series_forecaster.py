"""One series over time, with a test clock and a scripted history."""

from __future__ import annotations

import asyncio
import pickle
import threading
from dataclasses import dataclass, field

import numpy as np

from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_common.contracts.forecast_response import forecast_document
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.training.fit import FitOutcome, fit_one
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

NOON = 1_700_000_000.0
PATIENCE = 60.0


@dataclass
class Clock:
    now: float = NOON + 0.4

    def __call__(self) -> float:
        return self.now


@dataclass
class Recorded:
    """Full history that records its reads and can fail or hang."""

    reads: list[tuple[float, float]] = field(default_factory=list)
    failing: ForecastUnavailable | None = None
    hang: threading.Event | None = None
    scale: float = 1.0

    def demand(self, at: float) -> float:
        ramp = 20.0 if (at % 60) >= 40 else 2.0
        return self.scale * ramp * (1 + 0.1 * float(np.sin(at * 1.7)))

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        self.reads.append((since, until))
        if self.hang is not None:
            self.hang.wait(10)
        if self.failing is not None:
            return self.failing
        steps = np.arange(np.ceil(since / step), np.floor(until / step) + 1)
        return from_samples([(k * step, self.demand(k * step)) for k in steps], step, until=until)


@dataclass
class LooksHang(Recorded):
    """Reads of the whole window hang; reads of new data return at once."""

    release: threading.Event | None = None

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        if self.release is not None and until - since > 100:
            self.release.wait(20)
        return Recorded.read(self, query, step, since, until)


def question(**changes: object) -> ForecastRequest:
    return parse_forecast_request(
        {
            "series": "default/r1",
            "query": "demand",
            "stepSeconds": 1,
            "seasonSeconds": 60,
            "historySeconds": 480,
            "leadSeconds": 5,
            "horizonSeconds": 10,
        }
        | changes
    )


async def test_first_response_uses_a_quick_model() -> None:
    forecaster = SeriesForecaster(Recorded(), clock=Clock())
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert (body["state"], body["reason"]) == ("Ready", "BeatsLastValue")
    assert body["gate"]["open"] is True
    assert set(body["peakOverLead"]) == {"0.5", "0.9", "0.95"}
    assert body["lastObserved"]["at"] == NOON
    assert body["points"][0]["at"] == body["validUntil"] == NOON + 1


async def test_response_within_a_step_is_cached_without_a_read() -> None:
    clock, history = Clock(), Recorded()
    forecaster = SeriesForecaster(history, clock=clock)
    first = await forecaster.respond(question(), PATIENCE)
    clock.now += 0.5
    assert await forecaster.respond(question(), PATIENCE) is first
    assert len(history.reads) == 1


async def test_the_next_step_reads_only_what_is_new() -> None:
    clock, history = Clock(), Recorded()
    forecaster = SeriesForecaster(history, clock=clock)
    await forecaster.respond(question(), PATIENCE)
    clock.now += 1
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    since, until = history.reads[-1]
    assert until - since < 6
    assert body["lastObserved"]["at"] == NOON + 1


async def test_concurrent_requests_share_one_task() -> None:
    history = Recorded()
    forecaster = SeriesForecaster(history, clock=Clock())
    bodies = await asyncio.gather(*(forecaster.respond(question(), PATIENCE) for _ in range(5)))
    assert len(history.reads) == 1
    assert all(body is bodies[0] for body in bodies)


async def test_slow_history_reports_training_and_is_served_later() -> None:
    history = Recorded(hang=threading.Event())
    forecaster = SeriesForecaster(history, clock=Clock())
    body = forecast_document(await forecaster.respond(question(), 0.05))
    assert (body["state"], body["reason"]) == ("Unavailable", "Training")
    assert history.hang is not None
    history.hang.set()
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert body["state"] == "Ready"
    assert len(history.reads) == 1


async def test_slow_read_costs_only_the_newest_step() -> None:
    clock, history = Clock(), Recorded()
    forecaster = SeriesForecaster(history, clock=clock)
    await forecaster.respond(question(), PATIENCE)
    history.hang = threading.Event()
    clock.now += 2
    body = forecast_document(await forecaster.respond(question(), 0.05))
    assert body["state"] == "Ready"
    assert body["lastObserved"]["at"] == NOON
    assert min(point["at"] for point in body["points"]) > clock.now
    history.hang.set()
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert body["lastObserved"]["at"] == NOON + 2


async def test_prometheus_may_be_away_for_some_steps() -> None:
    clock, history = Clock(), Recorded()
    forecaster = SeriesForecaster(history, clock=clock)
    await forecaster.respond(question(), PATIENCE)
    history.failing = ForecastUnavailable(UnavailableReason.PROMETHEUS_UNREACHABLE, "gone")
    clock.now += 4
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert body["state"] == "Ready"
    assert body["lastObserved"]["at"] == NOON
    assert body["points"][0]["at"] == NOON + 5
    clock.now += 30
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert (body["state"], body["reason"], body["message"]) == (
        "Unavailable",
        "PrometheusUnreachable",
        "gone",
    )
    history.failing = None
    clock.now += 1
    assert (await forecaster.respond(question(), PATIENCE)).state == "Ready"


async def test_many_first_forecasts_do_not_delay_known_series() -> None:
    clock, history, executors = Clock(), Recorded(), Executors()
    known = SeriesForecaster(history, executors, clock=clock)
    await known.respond(question(), PATIENCE)
    hanging = Recorded(hang=threading.Event())
    assert hanging.hang is not None
    waiting_forecasters = [SeriesForecaster(hanging, executors, clock=clock) for _ in range(20)]
    bodies = await asyncio.gather(*(one.respond(question(), 0.05) for one in waiting_forecasters))
    assert {body.reason for body in bodies} == {"Training"}
    clock.now += 1
    body = forecast_document(await asyncio.wait_for(known.respond(question(), PATIENCE), 5))
    assert body["state"] == "Ready"
    assert body["lastObserved"]["at"] == NOON + 1
    hanging.hang.set()
    bodies = await asyncio.gather(
        *(one.respond(question(), PATIENCE) for one in waiting_forecasters)
    )
    assert {body.state for body in bodies} == {"Ready"}


async def test_many_backfill_reads_do_not_delay_new_data() -> None:
    clock, executors = Clock(), Executors()
    histories = [LooksHang() for _ in range(12)]
    forecasters = [SeriesForecaster(history, executors, clock=clock) for history in histories]
    for one in forecasters:
        await one.respond(question(), PATIENCE)
    for history in histories:
        history.release = threading.Event()
    clock.now += 21  # all are due to read the whole window again
    for _ in range(2):
        clock.now += 1
        bodies = await asyncio.gather(*(one.respond(question(), 5) for one in forecasters))
        assert {forecast_document(body)["lastObserved"]["at"] for body in bodies} == {
            int(clock.now)
        }
    for history in histories:
        assert history.release is not None
        history.release.set()
    for one in forecasters:
        await one.wait_until_idle()


async def test_series_retains_only_the_scorecard_of_its_backtest() -> None:
    forecaster = SeriesForecaster(Recorded(), clock=Clock())
    await forecaster.respond(question(), PATIENCE)
    assert forecaster.evaluation is not None
    assert forecaster.potential_saving() > 0
    assert len(pickle.dumps(forecaster.evaluation.scorecard)) < 4096


async def test_another_series_under_the_same_name_starts_afresh() -> None:
    clock, history = Clock(), Recorded()
    forecaster = SeriesForecaster(history, clock=clock)
    first = forecast_document(await forecaster.respond(question(), PATIENCE))
    history.scale = 100.0
    body = forecast_document(await forecaster.respond(question(query="tokens"), PATIENCE))
    assert body["peakOverLead"]["0.5"] > 50 * first["peakOverLead"]["0.5"]
    since, until = history.reads[-1]
    assert until - since == 480


async def test_issued_peaks_count_as_live_coverage() -> None:
    clock = Clock()
    forecaster = SeriesForecaster(Recorded(), clock=clock)
    for _ in range(90):
        body = forecast_document(await forecaster.respond(question(), PATIENCE))
        clock.now += 1
    assert body["coverage"]["0.9"]["samples"] == 90 - 6
    assert body["coverage"]["0.9"]["live"] > 0.7


async def test_learned_model_is_evaluated_when_added() -> None:
    clock = Clock()
    forecaster = SeriesForecaster(Recorded(), clock=clock)
    await forecaster.respond(question(), PATIENCE)
    material = forecaster.training_data()
    assert material is not None
    outcome = fit_one("prophet", *material)
    assert not isinstance(outcome.result, ForecastUnavailable), outcome.result
    forecaster.add_model(outcome)
    for _ in range(2):
        clock.now += 1
        body = forecast_document(await forecaster.respond(question(), PATIENCE))
        await asyncio.wait({t for t in (forecaster._evaluation_task,) if t is not None})
    clock.now += 1
    body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert "prophet" in body["gate"]["scores"]
    await forecaster.close()


def test_a_fit_that_raises_is_an_outcome() -> None:
    broken = Series(0, 1, np.full(400, 1e308))
    outcome = fit_one("lstm", broken, SeriesShape(60, 5, 10))
    assert isinstance(outcome, FitOutcome)
    assert isinstance(outcome.result, ForecastUnavailable)
