"""A changed wall clock of the forecaster does not change its forecasts."""

from __future__ import annotations

import math
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_common.contracts.forecast_response import forecast_document
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.series.series_clock import SeriesClock
from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.training.model_store import ModelStore
from r1_forecasting.unavailable import ForecastUnavailable

NOON = 1_700_000_000.0
STEPS = [-3600.0, 600.0, 365 * 86_400.0]


class Machine:
    """A wall clock that can be set, a monotonic clock, and a Prometheus."""

    def __init__(self, wrong_by: float = 0.0) -> None:
        self.elapsed, self.set_by = 0.4, wrong_by
        self.clock = SeriesClock(wall=self.wall, monotonic=lambda: self.elapsed)
        self.reads = 0

    def wall(self) -> float:
        return NOON + self.elapsed + self.set_by

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        """The samples up to now; the response has a Date."""
        self.reads += 1
        self.clock.update(formatdate(NOON + self.elapsed, usegmt=True))
        last = min(until, NOON + self.elapsed)
        first = max(since, NOON - 480)
        times = np.arange(math.ceil(first / step), math.floor(last / step) + 1) * step
        samples = [(at, 20.0 if at % 60 >= 40 else 2.0) for at in times.tolist()]
        return from_samples(samples, step, until=until)


def question() -> ForecastRequest:
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
    )


async def ask(forecaster: SeriesForecaster) -> dict[str, Any]:
    body = forecast_document(await forecaster.respond(question(), 60.0))
    await forecaster.wait_until_idle()
    return body


@pytest.mark.parametrize("step", STEPS)
async def test_a_step_of_the_wall_clock_changes_no_forecast(step: float) -> None:
    plain, stepped = Machine(), Machine()
    forecasters = [
        SeriesForecaster(machine, clock=machine.clock.now) for machine in (plain, stepped)
    ]
    for second in range(12):
        if second == 5:
            stepped.set_by = step
        bodies = [await ask(forecaster) for forecaster in forecasters]
        assert bodies[0]["state"] == bodies[1]["state"] == "Ready"
        for name in ("lastObserved", "peakOverLead", "validUntil", "model"):
            assert bodies[1][name] == bodies[0][name]
        for machine in (plain, stepped):
            machine.elapsed += 1.0
    assert stepped.reads == plain.reads


@pytest.mark.parametrize("wrong_by", STEPS)
async def test_wrong_clock_at_the_start_is_right_after_the_first_response(
    wrong_by: float,
) -> None:
    machine = Machine(wrong_by)
    forecaster = SeriesForecaster(machine, clock=machine.clock.now)
    for _ in range(3):
        body = await ask(forecaster)
        machine.elapsed += 1.1
    assert body["state"] == "Ready", body["message"]
    assert body["lastObserved"]["at"] == pytest.approx(NOON + machine.elapsed - 1.1, abs=1.01)


async def test_response_is_not_cached_for_an_hour_after_the_clock_is_set_back() -> None:
    machine = Machine()
    now = [NOON]
    forecaster = SeriesForecaster(machine, clock=lambda: now[0])
    await ask(forecaster)
    now[0] -= 3600.0
    before = machine.reads
    await ask(forecaster)
    assert machine.reads > before


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT"])
def test_a_header_that_is_no_date_changes_nothing(date: str | None) -> None:
    machine = Machine()
    machine.clock.update(date)
    assert machine.clock.now() == machine.wall()


def test_difference_within_the_header_resolution_is_ignored() -> None:
    machine = Machine()
    machine.clock.update(formatdate(machine.wall() - 1.7, usegmt=True))
    assert machine.clock.now() == pytest.approx(machine.wall(), abs=1e-3)


def test_stored_models_survive_a_wrong_clock_at_the_start(tmp_path: Path) -> None:
    folder = ModelStore.create(tmp_path)
    (tmp_path / "a.models").write_bytes(b"x")
    newest = folder.newest_file_time()
    folder.delete_older_than(before=min(newest + 365 * 86_400.0, newest) - 7 * 86_400.0)
    assert (tmp_path / "a.models").exists()
    assert ModelStore(None).newest_file_time() == 0.0
