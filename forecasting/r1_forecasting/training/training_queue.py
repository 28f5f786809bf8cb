"""Order of training across series, and the CPU budget of refits: pure, with `now` passed in.

First fits come before refits and have no budget. Refits may use a share of one CPU core, so a
thousand series delay each other's refits and nothing else. Among due orders the one with the
highest urgency is next: the potential saving times the waiting time. Every series with a potential
saving is trained eventually; a series without one (constant demand) is not trained.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.training.fit import FitOutcome

WAIT_OFFSET_SECONDS = 60.0
"""Added to the waiting time, so that the saving decides among orders of the same age."""
MIN_SAVING = 0.01
"""Least potential saving that an order counts with: 1 % of demand."""
STAGGER = 0.25
"""Refits are delayed by up to this share of their period, by a hash of the series' name."""


@dataclass(slots=True)
class TrainingOrder:
    """Recurring order for fits of one series; the callables read its current state."""

    series_name: str
    series: Callable[[], tuple[Series, SeriesShape] | None]
    done: Callable[[FitOutcome], None]
    requested: Callable[[], bool]
    potential_saving: Callable[[], float]
    """Cost that a perfect model would save, as a share of demand; 0 for constant demand."""
    due: float
    fitted_before: bool = False

    def urgency(self, now: float) -> float:
        """Potential saving times waiting time (s); 0 without a potential saving."""
        potential_saving = self.potential_saving()
        if not potential_saving > 0:
            return 0.0
        return max(potential_saving, MIN_SAVING) * (now - self.due + WAIT_OFFSET_SECONDS)


@dataclass(slots=True)
class TrainingQueue:
    """At most one order per series. ``share`` is the part of one CPU core for refits."""

    share: float
    orders: dict[str, TrainingOrder] = field(default_factory=dict)
    refits_paused_until: float = 0.0

    def put(self, order: TrainingOrder) -> None:
        """Add the order, or replace the one of the same series."""
        self.orders[order.series_name] = order

    def drop(self, series_name: str) -> None:
        """Remove the order of a dropped series."""
        self.orders.pop(series_name, None)

    def contains(self, order: TrainingOrder) -> bool:
        """Return whether the order is neither dropped nor replaced."""
        return self.orders.get(order.series_name) is order

    def due_count(self, now: float) -> int:
        """Number of due orders."""
        return sum(order.due <= now for order in self.orders.values())

    def next(self, now: float) -> TrainingOrder | None:
        """Return the most urgent first fit, else the most urgent refit within the budget."""
        due = [order for order in self.orders.values() if order.due <= now]
        chosen = _most_urgent([order for order in due if not order.fitted_before], now)
        if chosen is not None or now < self.refits_paused_until:
            return chosen
        return _most_urgent([o for o in due if o.fitted_before and o.requested()], now)

    def record_fit(
        self, order: TrainingOrder, *, began: float, spent: float, season: float
    ) -> None:
        """Record a fit that ``began`` then and took ``spent`` s of CPU.

        ``season`` (s) is the least time to the next fit. Refits are paused until the budget has
        covered the fit, counted from its start.
        """
        order.fitted_before = True
        stagger = 1.0 + STAGGER * (zlib.crc32(order.series_name.encode()) % 1000) / 1000
        order.due = began + max(season, spent / self.share) * stagger
        self.refits_paused_until = max(self.refits_paused_until, began + spent / self.share)

    def seconds_until_next(self, now: float) -> float:
        """Seconds until the next order may be due (0.02 to 5)."""
        upcoming = [order.due for order in self.orders.values()] + [self.refits_paused_until]
        return max(0.02, min([5.0, *(due - now for due in upcoming if due > now)]))


def _most_urgent(orders: list[TrainingOrder], now: float) -> TrainingOrder | None:
    order = max(orders, key=lambda order: order.urgency(now), default=None)
    return order if order is not None and order.urgency(now) > 0 else None
