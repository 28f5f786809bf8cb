"""Simulation of days of training: the forecaster's own queue with measured fit times.

All series arrive at once, as after a restart. Nothing is fitted; the simulation shows when each
series is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r1_forecasting.training.training_queue import TrainingOrder, TrainingQueue

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Rounds:
    """Result of a simulation. Seconds; `refit_share` is the CPU of refits over the simulated time."""

    all_fitted: float
    refit_share: float
    oldest_fit: float
    busiest_minute: float


def rounds(count: int, cost: float, share: float, days: float) -> Rounds:
    """Simulate `days` with `count` series whose fits take about `cost` s of CPU (10 % noise).

    `all_fitted` is NaN where the days do not suffice.
    """
    rng = np.random.default_rng(0)
    queue = TrainingQueue(share)
    for number in range(count):
        saving = float(rng.uniform(0.01, 0.3))
        queue.put(_order(f"team/model-{number}", saving))
    now, last = 0.0, days * DAY
    fitted: dict[str, float] = {}
    all_fitted, refits, begins = float("nan"), 0.0, []
    while now < last:
        order = queue.next(now)
        if order is None:
            now += queue.seconds_until_next(now)
            continue
        spent = cost * float(rng.uniform(0.9, 1.1))
        if order.fitted_before:
            refits += spent
            begins.append(now)
        fitted[order.series_name] = now + spent
        if len(fitted) == count and np.isnan(all_fitted):
            all_fitted = now + spent
        queue.record_fit(order, began=now, spent=spent, season=DAY)
        now += spent
    refitting = max(last - begins[0], 1.0) if begins else 1.0
    minutes = np.bincount((np.array(begins) % 3600 // 60).astype(np.int64), minlength=60)
    busiest = float(minutes.max() / minutes.mean()) if begins else float("nan")
    oldest = last - min(fitted.values()) if len(fitted) == count else float("nan")
    return Rounds(all_fitted, refits / refitting, oldest, busiest)


def _order(series_name: str, saving: float) -> TrainingOrder:
    return TrainingOrder(
        series_name,
        series=lambda: None,
        done=lambda _: None,
        requested=lambda: True,
        potential_saving=lambda: saving,
        due=0.0,
    )
