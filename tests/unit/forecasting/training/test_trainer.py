"""Trainer: first fits first, refits within the budget, failed fits."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from r1_forecasting.models.registry import fit_quick, training_part
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.training.fit import FitOutcome, fit_one
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingOrder, TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

SERIES, SHAPE = Series(0, 1, np.ones(100)), SeriesShape(10, 2, 3)


@dataclass(slots=True)
class Recording(Trainer):
    """A trainer that records its fits instead of running them."""

    log: list[str] = field(default_factory=list)

    async def _in_worker(self, model: str, series: Series, shape: SeriesShape) -> FitOutcome:
        return FitOutcome(
            model,
            ForecastUnavailable(UnavailableReason.FAILED, "not fitted in this test"),
            0.0,
            0.0,
        )

    def order(self, name: str, *, wanted: bool = True, again: bool = False) -> TrainingOrder:
        order = TrainingOrder(
            name,
            series=lambda: (SERIES, SHAPE),
            done=lambda outcome: self.log.append(f"{name}:{outcome.model}"),
            requested=lambda: wanted,
            potential_saving=lambda: 0.1,
            due=time.monotonic(),
            fitted_before=again,
        )
        self.enqueue(order)
        return order


def recording(*models: str) -> Recording:
    return Recording(models, TrainingQueue(share=0.25))


async def until(trainer: Recording, count: int) -> None:
    for _ in range(6000):
        if len(trainer.log) >= count:
            return
        await asyncio.sleep(0.01)


async def test_every_model_is_fitted_for_every_series() -> None:
    trainer = recording("lstm", "prophet")
    trainer.start()
    trainer.order("a")
    trainer.order("b")
    await until(trainer, 4)
    await trainer.stop()
    assert trainer.log == ["a:lstm", "a:prophet", "b:lstm", "b:prophet"]


async def test_first_fits_go_ahead_of_refits() -> None:
    trainer = recording("lstm")
    trainer.order("old", again=True)
    trainer.order("new")
    trainer.start()
    await until(trainer, 2)
    await trainer.stop()
    assert trainer.log == ["new:lstm", "old:lstm"]


async def test_series_without_requests_are_not_refitted() -> None:
    trainer = recording("lstm")
    trainer.order("idle", wanted=False, again=True)
    trainer.order("requested", again=True)
    trainer.start()
    await until(trainer, 1)
    await asyncio.sleep(0.1)
    await trainer.stop()
    assert trainer.log == ["requested:lstm"]


async def test_the_next_refit_is_a_season_away_and_staggered() -> None:
    trainer = recording("lstm")
    trainer.start()
    orders = [trainer.order(name) for name in ("a", "b", "c")]
    await until(trainer, 3)
    await trainer.stop()
    waits = [order.due - time.monotonic() for order in orders]
    assert all(8 < wait <= 12.5 for wait in waits)
    assert len({round(wait, 2) for wait in waits}) == 3


async def test_refits_pause_after_a_costly_fit() -> None:
    trainer = recording("lstm")
    trainer.queue.refits_paused_until = time.monotonic() + 60
    trainer.order("refit", again=True)
    trainer.start()
    trainer.order("first")
    await until(trainer, 1)
    await asyncio.sleep(0.1)
    await trainer.stop()
    assert trainer.log == ["first:lstm"]


async def test_removed_series_is_not_trained() -> None:
    trainer = recording("lstm")
    trainer.order("gone")
    trainer.remove("gone")
    trainer.start()
    await asyncio.sleep(0.05)
    await trainer.stop()
    assert trainer.log == []


async def test_an_order_that_fails_does_not_stop_the_others() -> None:
    trainer = recording("lstm")
    broken = trainer.order("broken")

    def fail() -> tuple[Series, SeriesShape] | None:
        raise RuntimeError("no material")

    broken.series = fail
    trainer.start()
    trainer.order("fine")
    await until(trainer, 1)
    await trainer.stop()
    assert trainer.log == ["fine:lstm"]


def test_fit_outcome_holds_cpu_time_and_wall_time() -> None:
    rng = np.random.default_rng(0)
    outcome = fit_one("prophet", Series(0, 1, rng.gamma(50, 0.2, 700)), SeriesShape(100, 5, 5))
    assert not isinstance(outcome.result, ForecastUnavailable), outcome.result
    assert outcome.cpu_seconds > 0


@pytest.mark.parametrize(("seasons", "reserved"), [(3.0, 1.2), (10.0, 3.0), (30.0, 9.0)])
def test_at_least_a_season_is_reserved_for_scoring(seasons: float, reserved: float) -> None:
    series = Series(0, 1, np.ones(int(seasons * 100)))
    back = len(series) - len(training_part(series, SeriesShape(100, 5, 5)))
    assert back == pytest.approx(reserved * 100 + 5, abs=1)


def test_quick_models_join_as_history_grows() -> None:
    rng = np.random.default_rng(0)
    series = Series(0, 1, rng.gamma(50, 0.2, 700))
    shape = SeriesShape(100, 5, 5)
    assert set(fit_quick(series.head(30), shape)) == {"last-value"}
    assert set(fit_quick(series.head(150), shape)) == {"last-value", "damped-trend"}
    assert set(fit_quick(series.head(250), shape)) == {
        "last-value",
        "damped-trend",
        "seasonal-naive",
        "minute-of-hour",
    }
    assert set(fit_quick(series, shape)) == {
        "last-value",
        "damped-trend",
        "seasonal-naive",
        "seasonal-level",
        "minute-of-hour",
    }
