"""History that arrives late: a backfill, a Prometheus outage, a delayed remote write."""

from __future__ import annotations

import asyncio
import math
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_common.contracts.forecast_response import forecast_document
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.service.backfill import BACKFILL_STEPS, BackfillWatcher, TimeRange
from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.service.service import ForecastService
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingOrder, TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable

NOON = 1_700_000_000.0
PATIENCE = 60.0
QUESTION: dict[str, Any] = {
    "series": "default/r1",
    "query": "demand",
    "stepSeconds": 1,
    "seasonSeconds": 60,
    "historySeconds": 480,
    "leadSeconds": 5,
    "horizonSeconds": 10,
}


def question(**changes: object) -> ForecastRequest:
    return parse_forecast_request(QUESTION | changes)


@dataclass
class Clock:
    now: float = NOON + 0.4

    def __call__(self) -> float:
        return self.now


@dataclass
class Filling:
    """A Prometheus with demand from `since` on, without the `lost` range."""

    since: float = -math.inf
    lost: TimeRange = field(default_factory=lambda: TimeRange(math.inf, math.inf))
    reads: list[TimeRange] = field(default_factory=list)
    hang: threading.Event | None = None

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        self.reads.append(TimeRange(since, until))
        if self.hang is not None and until - since > 20:
            self.hang.wait(10)
        steps = np.arange(np.ceil(since / step), np.floor(until / step) + 1) * step
        known = [at for at in steps.tolist() if at >= self.since and not self.lost.contains(at)]
        return from_samples(
            [(at, 20.0 if at % 60 >= 40 else 2.0) for at in known], step, until=until
        )


async def ask(
    forecaster: SeriesForecaster, request: ForecastRequest | None = None
) -> dict[str, Any]:
    """One response, and the background tasks it started."""
    body = forecast_document(await forecaster.respond(request or question(), PATIENCE))
    await forecaster.wait_until_idle()
    return body


async def test_backfill_is_read_and_evaluated_within_a_few_steps() -> None:
    clock, history = Clock(), Filling(since=NOON - 100)
    forecaster = SeriesForecaster(history, clock=clock)
    before = await ask(forecaster)
    assert before["reason"] != "BeatsLastValue", "a season and a half teaches nothing yet"
    history.since = -math.inf
    for _ in range(BACKFILL_STEPS + 2):
        clock.now += 1
        after = await ask(forecaster)
    assert forecaster.series is not None
    assert forecaster.series.observed >= 480
    assert forecaster.backfills == 1
    assert after["reason"] == "BeatsLastValue"


async def test_missing_history_is_read_rarely_and_only_its_own_range() -> None:
    clock, history = Clock(), Filling(since=NOON - 100)
    forecaster = SeriesForecaster(history, clock=clock)
    for _ in range(2 * BACKFILL_STEPS + 1):
        await ask(forecaster)
        clock.now += 1
    looks = [span for span in history.reads[1:] if span.since < NOON - 110]
    assert len(looks) == 2
    assert all(span.until < NOON - 100 for span in looks), "what is known is not read again"
    assert forecaster.backfills == 0


async def test_filled_gap_is_found_by_the_periodic_full_read() -> None:
    clock, history = Clock(), Filling(lost=TimeRange(NOON - 200, NOON - 60))
    forecaster = SeriesForecaster(history, clock=clock)
    await ask(forecaster)
    history.lost = TimeRange(math.inf, math.inf)
    whole = 0
    for _ in range(45):
        clock.now += 1
        await ask(forecaster)
        whole = sum(span.until - span.since > 400 for span in history.reads)
    assert whole == 1 + 2, "at the start, and twice in 45 steps"
    assert forecaster.series is not None
    assert forecaster.series.observed >= 480
    assert forecaster.backfills == 1


async def test_few_late_samples_are_merged_without_new_training() -> None:
    clock, history = Clock(), Filling(lost=TimeRange(NOON - 200, NOON - 195))
    forecaster = SeriesForecaster(history, clock=clock)
    await ask(forecaster)
    history.lost = TimeRange(math.inf, math.inf)
    for _ in range(45):
        clock.now += 1
        await ask(forecaster)
    assert forecaster.series is not None
    assert not np.isnan(forecaster.series.values).any()
    assert forecaster.backfills == 0


async def test_backfill_reads_delay_no_response_and_lose_no_new_data() -> None:
    clock, history = Clock(), Filling(since=NOON - 100)
    forecaster = SeriesForecaster(history, clock=clock)
    await ask(forecaster)
    history.since, history.hang = -math.inf, threading.Event()
    for _ in range(BACKFILL_STEPS + 4):
        clock.now += 1
        body = forecast_document(await forecaster.respond(question(), PATIENCE))
    assert body["lastObserved"]["at"] == math.floor(clock.now), "answered while a read hangs"
    history.hang.set()
    await forecaster.wait_until_idle()
    assert forecaster.series is not None
    assert forecaster.series.end == math.floor(clock.now)
    assert not np.isnan(forecaster.series.values).any()


async def test_backfill_of_another_source_is_dropped() -> None:
    clock, history = Clock(), Filling(since=NOON - 100)
    forecaster = SeriesForecaster(history, clock=clock)
    await ask(forecaster)
    history.since, history.hang = -math.inf, threading.Event()
    for _ in range(BACKFILL_STEPS):
        clock.now += 1
        await forecaster.respond(question(), PATIENCE)
    history.since = NOON - 50
    answering = asyncio.create_task(forecaster.respond(question(query="tokens"), PATIENCE))
    await asyncio.sleep(0.05)
    history.hang.set()
    await answering
    await forecaster.wait_until_idle()
    assert forecaster.series is not None
    assert forecaster.series.start == NOON - 50


class Noted(Trainer):
    """A trainer that records its orders and fits nothing."""

    def __init__(self) -> None:
        super().__init__(("lstm",), TrainingQueue(0.25))
        self.noted: list[str] = []

    def start(self) -> None:
        """Nothing runs."""

    def enqueue(self, order: TrainingOrder) -> None:
        self.noted.append(order.series_name)


async def test_learned_models_are_trained_again_after_a_large_backfill() -> None:
    service = ForecastService(Filling(), trainer := Noted(), timeout_seconds=PATIENCE)
    async with TestClient(TestServer(service.application())) as client:
        for _ in range(2):
            await client.post("/v1/forecast", json=QUESTION)
        assert trainer.noted == ["default/r1"]
        service.forecasters["default/r1"].backfills += 1
        await client.post("/v1/forecast", json=QUESTION)
        assert trainer.noted == ["default/r1"] * 2


class TestPace:
    DAY = parse_forecast_request(
        QUESTION
        | {"stepSeconds": 60, "seasonSeconds": 86400, "historySeconds": 1209600, "leadSeconds": 60}
    )

    def test_a_fortnight_is_read_again_every_hour_and_its_missing_start_every_five_minutes(
        self,
    ) -> None:
        full = Series(NOON - 1209600, 60.0, np.ones(20161))
        young = Series(NOON - 86400, 60.0, np.ones(1441))
        watch = BackfillWatcher()
        watch.mark_full_read(NOON)
        assert watch.due(full, self.DAY, NOON + 3599) is None
        assert watch.due(full, self.DAY, NOON + 3600) == TimeRange(
            NOON + 3600 - 1209600, NOON + 3600
        )
        assert watch.due(young, self.DAY, NOON + 3600 + 299) is None
        reads_due = watch.due(young, self.DAY, NOON + 3600 + 300)
        assert reads_due == TimeRange(NOON + 3900 - 1209600, NOON - 86400 - 60)

    def test_due_read_is_recorded_when_returned(self) -> None:
        young = Series(NOON - 86400, 60.0, np.ones(1441))
        watch = BackfillWatcher()
        watch.mark_full_read(NOON)
        assert watch.due(young, self.DAY, NOON + 300) is not None
        assert watch.due(young, self.DAY, NOON + 301) is None


def test_time_ranges_contain_both_ends() -> None:
    assert TimeRange(1, 2).contains(1)
    assert TimeRange(1, 2).contains(2)
    assert not TimeRange(1, 2).contains(2.5)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0)])
def test_clock_set_back_does_not_stop_backfill_reads(first: float, second: float) -> None:
    young = Series(NOON - 100, 1.0, np.ones(100))
    watch = BackfillWatcher()
    watch.mark_full_read(NOON + 1000 * first)
    assert watch.due(young, question(), NOON + 1000 * second + BACKFILL_STEPS) is not None
