"""How many seats to keep free for classes with a promise, from what they lately asked for.

Strict order alone cannot keep a promise of a short time to first token: when batch work has filled
every seat, the next urgent request waits for one of them to end.  So a less urgent request may take
a free seat only while enough others stay free.

How many are enough: urgent arrivals (rate ``a``) take seats out of the reserve, every seat that is
freed anywhere (rate ``r``, the pool's size over the mean time a seat is held) goes back into it
first.  The seats missing from the reserve are then the customers of an M/M/1 queue, so with ``n``
seats reserved an urgent request finds none with probability ``(a/r)^n``, and still has none after
waiting for ``w`` seconds with probability ``(a/r)^n exp(-r w)``.  The reserve is the smallest ``n``
that makes this one in a thousand.

It follows the load: none while nobody urgent comes, a few when they come by the dozen, and none
again in a pool so large that seats are freed faster than anybody minds to wait.

An operator that decides about the same pool may *advise* seats: it sees all gateways' arrivals and
which replicas are about to go.  Advice only adds to what is reckoned here, and counts
until a moment that comes with it: without an operator everything is as if there were none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from r1_gateway.admission.classes import CLASSES, ClassPolicy, PriorityClass

MEMORY_SECONDS = 30.0
HELD_MEMORY = 0.05
"""Weight of the newest request in the mean time that a seat is held."""
WAIT_SHARE = 0.5
"""Part of a promised time to first token that may be spent waiting; the rest is the prefill's."""
MISSES = 0.001


class SeatReservation:
    """Arrival rates per class, and the reserve that follows from them."""

    def __init__(self, policies: Sequence[ClassPolicy]) -> None:
        self._rates = [0.0] * len(CLASSES)
        self._seen_at = [0.0] * len(CLASSES)
        self.held_seconds: float | None = None
        """how long a request holds its seat, lately; None before any has ended"""
        self._advised = [0] * len(CLASSES)
        self._advised_until = -math.inf
        self.active = False
        """whether any class promises anything: otherwise nothing needs to be watched"""
        self.promise(policies)

    def promise(self, policies: Sequence[ClassPolicy]) -> None:
        """Take over what the classes promise; a class without a promise reserves nothing."""
        self._windows = tuple(
            WAIT_SHARE * (policy.time_to_first_token_seconds or 0.0) for policy in policies
        )
        self.active = any(self._windows)
        self._against = tuple(any(self._windows[: klass.value]) for klass in CLASSES)

    def holds_against(self, klass: PriorityClass) -> bool:
        """Whether any class above ``klass`` has a promise at all."""
        return self._against[klass]

    def arrived(self, klass: PriorityClass, now: float) -> None:
        """A request of this class came."""
        self._rates[klass] = self._rate(klass, now) + 1.0 / MEMORY_SECONDS
        self._seen_at[klass] = now

    def released(self, held_seconds: float) -> None:
        """A seat was freed after so many seconds."""
        if self.held_seconds is None:
            self.held_seconds = held_seconds
        self.held_seconds += HELD_MEMORY * (held_seconds - self.held_seconds)

    def advise(self, seats: Mapping[PriorityClass, int], until: float) -> None:
        """Take over how many seats should stay free for each class and those above it.

        It replaces what was advised before and is forgotten at `until`.
        """
        kept = 0
        for klass in CLASSES:  # what is kept for Q1 is kept for Q1 and Q2 together as well
            self._advised[klass] = kept
            kept = max(kept, seats.get(klass, 0) if self._windows[klass] > 0.0 else 0)
        self._advised_until = until

    def advised(self, klass: PriorityClass, now: float) -> int:
        """Seats that a request of ``klass`` is advised to leave free; zero once that is too old."""
        return self._advised[klass] if now < self._advised_until else 0

    def _rate(self, klass: PriorityClass, now: float) -> float:
        elapsed = max(now - self._seen_at[klass], 0.0)
        return self._rates[klass] * math.exp(-elapsed / MEMORY_SECONDS)

    def reserve(self, klass: PriorityClass, seats: int, now: float) -> int:
        """Seats that a request of ``klass`` must leave free in a pool of ``seats``.

        The larger of what is reckoned and what is advised, but never more than half of them:
        whoever may use a pool at all must get on in it.
        """
        return min(max(self._reckoned(klass, seats, now), self.advised(klass, now)), seats // 2)

    def _reckoned(self, klass: PriorityClass, seats: int, now: float) -> int:
        arrivals, window = 0.0, math.inf
        for urgent in CLASSES[: klass.value]:
            if self._windows[urgent] > 0.0:
                arrivals += self._rate(urgent, now)
                window = min(window, self._windows[urgent])
        if window == math.inf or arrivals * window < MISSES or seats < 2:
            return 0
        if not self.held_seconds:  # nothing has ended yet, or everything ends at once
            return 0 if self.held_seconds == 0.0 else 1
        releases = seats / self.held_seconds
        too_likely = -math.log(MISSES) - releases * window
        if too_likely <= 0.0:
            return 0
        if arrivals >= releases:
            return seats // 2
        return math.ceil(too_likely / math.log(releases / arrivals))
