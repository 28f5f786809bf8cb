"""One subject over time, with a clock of the test's own and a history it controls."""

from __future__ import annotations

import asyncio
import pickle
import threading
from dataclasses import dataclass, field

import numpy as np

from r1_forecasting.protocol import ForecastUnavailable, SeriesShape, UnavailableReason
from r1_forecasting.selection.training import FitOutcome, fit_one
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.request import ForecastRequest, parse_request
from r1_forecasting.service.series_forecaster import SeriesForecaster

NOON = 1_700_000_000.0
PATIENCE = 60.0


@dataclass
class Clock:
    now: float = NOON + 0.4

    def __call__(self) -> float:
        return self.now


@dataclass
class Recorded:
    """Demand known in full; remembers what was read and can be made to fail or to hang."""

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
    """Reads of the whole window wait; what is new comes at once."""

    release: threading.Event | None = None

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        if self.release is not None and until - since > 100:
            self.release.wait(20)
        return Recorded.read(self, query, step, since, until)


def question(**changes: object) -> ForecastRequest:
    return parse_request(
        {
            "subject": "default/r1",
            "query": "demand",
            "stepSeconds": 1,
            "seasonSeconds": 60,
            "historySeconds": 480,
            "leadSeconds": 5,
            "horizonSeconds": 10,
        }
        | changes
    )


async def test_the_first_answer_acts_on_a_quick_model() -> None:
    subject = SeriesForecaster(Recorded(), clock=Clock())
    body = await subject.answer(question(), PATIENCE)
    assert (body["state"], body["reason"]) == ("Ready", "BeatsLastValue")
    assert body["gate"]["acts"] is True
    assert set(body["peakOverLead"]) == {"0.5", "0.9", "0.95"}
    assert body["lastObserved"]["at"] == NOON
    assert body["points"][0]["at"] == body["validUntil"] == NOON + 1


async def test_within_a_step_the_answer_is_the_same_and_costs_no_read() -> None:
    clock, history = Clock(), Recorded()
    subject = SeriesForecaster(history, clock=clock)
    first = await subject.answer(question(), PATIENCE)
    clock.now += 0.5
    assert await subject.answer(question(), PATIENCE) is first
    assert len(history.reads) == 1


async def test_the_next_step_reads_only_what_is_new() -> None:
    clock, history = Clock(), Recorded()
    subject = SeriesForecaster(history, clock=clock)
    await subject.answer(question(), PATIENCE)
    clock.now += 1
    body = await subject.answer(question(), PATIENCE)
    since, until = history.reads[-1]
    assert until - since < 6
    assert body["lastObserved"]["at"] == NOON + 1


async def test_concurrent_questions_share_one_piece_of_work() -> None:
    history = Recorded()
    subject = SeriesForecaster(history, clock=Clock())
    bodies = await asyncio.gather(*(subject.answer(question(), PATIENCE) for _ in range(5)))
    assert len(history.reads) == 1
    assert all(body is bodies[0] for body in bodies)


async def test_a_slow_history_is_said_to_be_training_and_is_there_later() -> None:
    history = Recorded(hang=threading.Event())
    subject = SeriesForecaster(history, clock=Clock())
    body = await subject.answer(question(), 0.05)
    assert (body["state"], body["reason"]) == ("Unavailable", "Training")
    assert history.hang is not None
    history.hang.set()
    body = await subject.answer(question(), PATIENCE)
    assert body["state"] == "Ready"
    assert len(history.reads) == 1


async def test_a_read_that_is_slow_costs_no_answer_but_its_newest_step() -> None:
    clock, history = Clock(), Recorded()
    subject = SeriesForecaster(history, clock=clock)
    await subject.answer(question(), PATIENCE)
    history.hang = threading.Event()
    clock.now += 2
    body = await subject.answer(question(), 0.05)
    assert body["state"] == "Ready"
    assert body["lastObserved"]["at"] == NOON
    assert min(point["at"] for point in body["points"]) > clock.now
    history.hang.set()
    body = await subject.answer(question(), PATIENCE)
    assert body["lastObserved"]["at"] == NOON + 2


async def test_prometheus_may_be_away_for_some_steps() -> None:
    clock, history = Clock(), Recorded()
    subject = SeriesForecaster(history, clock=clock)
    await subject.answer(question(), PATIENCE)
    history.failing = ForecastUnavailable(UnavailableReason.PROMETHEUS_UNREACHABLE, "gone")
    clock.now += 4
    body = await subject.answer(question(), PATIENCE)
    assert body["state"] == "Ready"
    assert body["lastObserved"]["at"] == NOON
    assert body["points"][0]["at"] == NOON + 5
    clock.now += 30
    body = await subject.answer(question(), PATIENCE)
    assert (body["state"], body["reason"], body["message"]) == (
        "Unavailable",
        "PrometheusUnreachable",
        "gone",
    )
    history.failing = None
    clock.now += 1
    assert (await subject.answer(question(), PATIENCE))["state"] == "Ready"


async def test_a_herd_of_newcomers_does_not_hold_up_who_is_known() -> None:
    clock, history, lanes = Clock(), Recorded(), Executors()
    known = SeriesForecaster(history, lanes, clock=clock)
    await known.answer(question(), PATIENCE)
    hanging = Recorded(hang=threading.Event())
    assert hanging.hang is not None
    herd = [SeriesForecaster(hanging, lanes, clock=clock) for _ in range(20)]
    told = await asyncio.gather(*(one.answer(question(), 0.05) for one in herd))
    assert {body["reason"] for body in told} == {"Training"}
    clock.now += 1
    body = await asyncio.wait_for(known.answer(question(), PATIENCE), 5)
    assert body["state"] == "Ready"
    assert body["lastObserved"]["at"] == NOON + 1
    hanging.hang.set()
    told = await asyncio.gather(*(one.answer(question(), PATIENCE) for one in herd))
    assert {body["state"] for body in told} == {"Ready"}


async def test_a_herd_that_looks_back_does_not_hold_up_what_is_new() -> None:
    clock, lanes = Clock(), Executors()
    histories = [LooksHang() for _ in range(12)]
    subjects = [SeriesForecaster(history, lanes, clock=clock) for history in histories]
    for one in subjects:
        await one.answer(question(), PATIENCE)
    for history in histories:
        history.release = threading.Event()
    clock.now += 21  # all are due to read the whole window again
    for _ in range(2):
        clock.now += 1
        told = await asyncio.gather(*(one.answer(question(), 5) for one in subjects))
        assert {body["lastObserved"]["at"] for body in told} == {int(clock.now)}
    for history in histories:
        assert history.release is not None
        history.release.set()
    for one in subjects:
        await one.quiet()


async def test_a_subject_keeps_of_its_backtest_only_what_forecasts_need() -> None:
    subject = SeriesForecaster(Recorded(), clock=Clock())
    await subject.answer(question(), PATIENCE)
    assert subject.judgement is not None
    assert subject.to_gain() > 0
    assert len(pickle.dumps(subject.judgement.standing)) < 4096


async def test_another_series_under_the_same_name_starts_afresh() -> None:
    clock, history = Clock(), Recorded()
    subject = SeriesForecaster(history, clock=clock)
    first = await subject.answer(question(), PATIENCE)
    history.scale = 100.0
    body = await subject.answer(question(query="tokens"), PATIENCE)
    assert body["peakOverLead"]["0.5"] > 50 * first["peakOverLead"]["0.5"]
    since, until = history.reads[-1]
    assert until - since == 480


async def test_announced_peaks_are_counted_as_live_coverage() -> None:
    clock = Clock()
    subject = SeriesForecaster(Recorded(), clock=clock)
    for _ in range(90):
        body = await subject.answer(question(), PATIENCE)
        clock.now += 1
    assert body["coverage"]["0.9"]["samples"] == 90 - 6
    assert body["coverage"]["0.9"]["live"] > 0.7


async def test_a_learned_model_is_judged_when_it_joins() -> None:
    clock = Clock()
    subject = SeriesForecaster(Recorded(), clock=clock)
    await subject.answer(question(), PATIENCE)
    material = subject.training_material()
    assert material is not None
    outcome = fit_one("prophet", *material)
    assert not isinstance(outcome.result, ForecastUnavailable), outcome.result
    subject.join(outcome)
    for _ in range(2):
        clock.now += 1
        body = await subject.answer(question(), PATIENCE)
        await asyncio.wait({t for t in (subject._judging,) if t is not None})
    clock.now += 1
    body = await subject.answer(question(), PATIENCE)
    assert "prophet" in body["gate"]["scores"]
    await subject.close()


def test_a_fit_that_raises_is_an_outcome() -> None:
    broken = Series(0, 1, np.full(400, 1e308))
    outcome = fit_one("lstm", broken, SeriesShape(60, 5, 10))
    assert isinstance(outcome, FitOutcome)
    assert isinstance(outcome.result, ForecastUnavailable)
