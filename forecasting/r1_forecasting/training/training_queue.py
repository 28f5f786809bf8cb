"""Whose models are trained next, and when it is paid for: pure, with `now` passed in.

First fits go ahead of refits and are not held back; refits are paid from a share of one core, so
a thousand subjects slow down each other's refits and nothing else. Among those that are due the
most urgent goes first: what a perfect model would save it, times how long it has waited. Nobody
who has something to gain waits for ever, and who has nothing (constant demand) is not trained.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.training.fit import FitOutcome

WAIT_OFFSET_SECONDS = 60.0
"""Waiting begins at this, so that worth counts among orders of the same moment."""
MIN_SAVING = 0.01
"""What any gain counts at least: 1 % of demand."""
STAGGER = 0.25
"""Refits are put off by up to this share of their period, by the subject's name."""


@dataclass(slots=True)
class TrainingOrder:
    """One subject's standing order for fits; the callables reach into its present state."""

    series_name: str
    series: Callable[[], tuple[Series, SeriesShape] | None]
    done: Callable[[FitOutcome], None]
    requested: Callable[[], bool]
    potential_saving: Callable[[], float]
    """What a perfect model would save, as a share of demand; 0: nothing to gain."""
    due: float
    fitted_before: bool = False

    def urgency(self, now: float) -> float:
        """0 where nothing is to gain, else the more the longer it waits."""
        potential_saving = self.potential_saving()
        if not potential_saving > 0:
            return 0.0
        return max(potential_saving, MIN_SAVING) * (now - self.due + WAIT_OFFSET_SECONDS)


@dataclass(slots=True)
class TrainingQueue:
    """At most one order per subject. ``share`` is the part of one core that refits may use."""

    share: float
    orders: dict[str, TrainingOrder] = field(default_factory=dict)
    refits_paused_until: float = 0.0

    def put(self, order: TrainingOrder) -> None:
        """Train this subject when its turn comes and again each time it is due."""
        self.orders[order.series_name] = order

    def drop(self, series_name: str) -> None:
        """Its subject has gone."""
        self.orders.pop(series_name, None)

    def contains(self, order: TrainingOrder) -> bool:
        """Whether it still stands: neither dropped nor replaced."""
        return self.orders.get(order.series_name) is order

    def due_count(self, now: float) -> int:
        """How many are due."""
        return sum(order.due <= now for order in self.orders.values())

    def next(self, now: float) -> TrainingOrder | None:
        """The most urgent first fit, else the most urgent refit that can be paid for."""
        due = [order for order in self.orders.values() if order.due <= now]
        chosen = _most_urgent([order for order in due if not order.fitted_before], now)
        if chosen is not None or now < self.refits_paused_until:
            return chosen
        return _most_urgent([o for o in due if o.fitted_before and o.requested()], now)

    def record_fit(
        self, order: TrainingOrder, *, began: float, spent: float, season: float
    ) -> None:
        """A fit that ``began`` then took ``spent`` s of CPU; ``season`` (s) is the least till the next.

        Refits rest until the share has paid for it, counted from its beginning.
        """
        order.fitted_before = True
        stagger = 1.0 + STAGGER * (zlib.crc32(order.series_name.encode()) % 1000) / 1000
        order.due = began + max(season, spent / self.share) * stagger
        self.refits_paused_until = max(self.refits_paused_until, began + spent / self.share)

    def seconds_until_next(self, now: float) -> float:
        """Seconds until something may have become due (0.02 to 5)."""
        upcoming = [order.due for order in self.orders.values()] + [self.refits_paused_until]
        return max(0.02, min([5.0, *(due - now for due in upcoming if due > now)]))


def _most_urgent(orders: list[TrainingOrder], now: float) -> TrainingOrder | None:
    order = max(orders, key=lambda order: order.urgency(now), default=None)
    return order if order is not None and order.urgency(now) > 0 else None
