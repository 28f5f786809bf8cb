"""Seats to reserve for classes with an SLO target, from their recent arrivals.

The formula is `r1_common.seat_reservation`. An operator that scales the same pool may reserve seats too
(``PUT /seat-reservations``): it has the arrivals at all gateways and the replicas that are about to
stop. The larger number applies until the operator's reservation expires.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy, PriorityClass
from r1_common.seat_reservation import WAIT_SHARE, reserved_seats

MEMORY_SECONDS = 30.0
OCCUPANCY_WEIGHT = 0.05
"""Weight of the newest request in the mean time that a request occupies its seat."""


class SeatReservation:
    """Arrival rates by class, and the seats to reserve for them."""

    def __init__(self, policies: Sequence[ClassPolicy]) -> None:
        self._rates = [0.0] * len(CLASSES)
        self._rate_at = [0.0] * len(CLASSES)
        self.occupancy_seconds: float | None = None
        """Recent mean time that a request occupies its seat; None before the first has ended."""
        self._operator_seats = [0] * len(CLASSES)
        self._operator_seats_until = -math.inf
        self.active = False
        """Whether any class has an SLO target; otherwise nothing needs to be measured."""
        self.set_targets(policies)

    def set_targets(self, policies: Sequence[ClassPolicy]) -> None:
        """Apply the SLO targets of the classes; a class without a target reserves nothing."""
        self._windows = tuple(
            WAIT_SHARE * (policy.time_to_first_token_seconds or 0.0) for policy in policies
        )
        self.active = any(self._windows)
        self._applies = tuple(any(self._windows[: klass.value]) for klass in CLASSES)

    def applies_to(self, klass: PriorityClass) -> bool:
        """Whether any class above ``klass`` has an SLO target."""
        return self._applies[klass]

    def arrived(self, klass: PriorityClass, now: float) -> None:
        """Count an arrival."""
        self._rates[klass] = self._rate(klass, now) + 1.0 / MEMORY_SECONDS
        self._rate_at[klass] = now

    def released(self, occupancy_seconds: float) -> None:
        """Count a request that occupied its seat for that long."""
        if self.occupancy_seconds is None:
            self.occupancy_seconds = occupancy_seconds
        self.occupancy_seconds += OCCUPANCY_WEIGHT * (occupancy_seconds - self.occupancy_seconds)

    def reserve_seats(self, seats: Mapping[PriorityClass, int], until: float) -> None:
        """Replace the operator's reservation, for each class and those above it, until ``until``."""
        reserved = 0
        for klass in CLASSES:  # seats reserved for Q1 are reserved for Q1 and Q2 together as well
            self._operator_seats[klass] = reserved
            reserved = max(reserved, seats.get(klass, 0) if self._windows[klass] > 0.0 else 0)
        self._operator_seats_until = until

    def reserved_by_operator(self, klass: PriorityClass, now: float) -> int:
        """Seats that the operator reserves against ``klass``; 0 once the reservation has expired."""
        return self._operator_seats[klass] if now < self._operator_seats_until else 0

    def _rate(self, klass: PriorityClass, now: float) -> float:
        elapsed = max(now - self._rate_at[klass], 0.0)
        return self._rates[klass] * math.exp(-elapsed / MEMORY_SECONDS)

    def reserved_against(self, klass: PriorityClass, seats: int, now: float) -> int:
        """Seats that a request of ``klass`` must leave free in a pool of ``seats``.

        The larger of the computed number and the operator's, at most half of the pool: every class
        that may use a pool can progress in it.
        """
        return min(
            max(self._computed(klass, seats, now), self.reserved_by_operator(klass, now)),
            seats // 2,
        )

    def _computed(self, klass: PriorityClass, seats: int, now: float) -> int:
        arrivals, window = 0.0, math.inf
        for urgent in CLASSES[: klass.value]:
            if self._windows[urgent] > 0.0:
                arrivals += self._rate(urgent, now)
                window = min(window, self._windows[urgent])
        if window == math.inf:
            return 0
        return reserved_seats(arrivals, window, seats, self.occupancy_seconds)
