"""Retry-After as a promise: when a refused client returns, its place in the queue is free.

Refused clients get different times, one for each place that is expected to become free, so that they
do not return together.  Until then new requests may not take these places: in a closed loop of
clients every freed place is asked for at once, and a client that waited would be refused again.

Which request is a return?  A promise belongs to the connection that got it.  When that connection
closes, or carries another request first (many clients share a pool of connections), the same
request (its ``identity``) on any connection claims the promise.  One that is overdue goes to the
first request that comes, because clients may change what they ask: after ``STRANGER_SECONDS``, or
earlier when few of the latest returns were the same requests.

Promises reserve at most half of a queue and end ``GRACE_SECONDS`` after they are due, so that
clients which do not return cost others a bounded part of the queue for a bounded time.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

SHORTEST_SECONDS = 1
LONGEST_SECONDS = 60
GRACE_SECONDS = 1.0
STRANGER_SECONDS = 0.5
WEIGHT = 0.05
PROMISED_SHARE = 0.9
"""Part of the drain that is promised; the rest is for clients that were not refused before."""
COUNTED_SHARE = 0.5
"""Part of the drain until a promise is due that may be counted on for it."""
HORIZON_SECONDS = 10.0
SLICE_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class ReservedReturn:
    """A place in a queue from ``due`` on (monotonic seconds)."""

    book: ReservedReturns
    due: float
    identity: int = 0
    owned: bool = True
    closed: bool = False

    def disown(self) -> None:
        """Its connection has closed or serves another client: any return may claim it."""
        if self.owned:
            self.owned = False
            self.book.give_away(self)


class ReservedReturns:
    """The promises of one queue.  Costs do not grow with their number, but for a heap's logarithm."""

    def __init__(self) -> None:
        self._ahead = 0.0  # places promised that are not yet expected to be free, at that time
        self._counted_at = 0.0
        self._slices: dict[int, int] = {}  # open promises by the slice in which they are due
        self.open = False
        """whether any promise may still be open"""
        # Those that any connection may claim, by time and by identity.
        self._unowned: list[tuple[float, int, ReservedReturn]] = []
        self._by_identity: dict[int, list[tuple[float, int, ReservedReturn]]] = {}
        self._given = 0
        self._repeated = 1.0
        """share of the latest of their claims that were made by the same request"""
        self._expired_to = 0

    def promise(
        self, now: float, per_second: float, held_seconds: float, places: int, identity: int = 0
    ) -> tuple[int, ReservedReturn | None]:
        """Whole seconds after which to return, and the place that is promised for then.

        ``per_second`` is the rate at which places become free, ``held_seconds`` the time in which
        as many may become free together, ``places`` how many may be kept free for returns.  None
        when all that become free within ``LONGEST_SECONDS`` are promised already.
        """
        rate = PROMISED_SHARE * per_second
        self._ahead = max(self._ahead - rate * (now - self._counted_at), 0.0)
        self._counted_at = now
        if self._ahead + 1.0 > rate * LONGEST_SECONDS:
            return LONGEST_SECONDS, None
        seconds = max(math.ceil((self._ahead + 1.0) / rate), SHORTEST_SECONDS)
        self._expire(now)
        while self._due_before(now + seconds, held_seconds) >= max(places, 1):
            seconds += 1
            if seconds > LONGEST_SECONDS:
                return LONGEST_SECONDS, None
        self._ahead += 1.0
        made = ReservedReturn(self, now + seconds, identity)
        at = _slice(made.due)
        self.open = True
        self._slices[at] = self._slices.get(at, 0) + 1
        return seconds, made

    def _due_before(self, due: float, held_seconds: float) -> int:
        """Promises that fall due while the same seats are held: their places add up."""
        last = _slice(due)
        first = last - math.ceil(min(held_seconds, 1.0) / SLICE_SECONDS) + 1
        return sum(self._slices.get(at, 0) for at in range(first, last + 1))

    def claim(self, promise: ReservedReturn | None, now: float, identity: int = 0) -> bool:
        """Whether a request that comes now, on a connection with ``promise``, is a return."""
        self._expire(now)
        if promise is not None and promise.owned:
            if promise.book is self and promise.due <= now:
                promise.owned = False
                return self._close(promise)
            promise.disown()
        same = self._by_identity.get(identity)
        if same is not None and self._take(same, now):
            self._repeated += WEIGHT * (1.0 - self._repeated)
            return True
        if self._take(self._unowned, now - STRANGER_SECONDS * self._repeated):
            self._repeated -= WEIGHT * self._repeated
            return True
        return False

    def _take(self, heap: list[tuple[float, int, ReservedReturn]], due: float) -> bool:
        """Close the first promise of the heap that is open and was due by then."""
        while heap and heap[0][0] <= due:
            if self._close(heapq.heappop(heap)[2]):
                return True
        return False

    def give_away(self, promise: ReservedReturn) -> None:
        """Let any connection claim it."""
        if promise.closed:
            return
        self._given += 1
        entry = (promise.due, self._given, promise)
        heapq.heappush(self._unowned, entry)
        heapq.heappush(self._by_identity.setdefault(promise.identity, []), entry)

    def reserved(self, now: float, per_second: float, held_seconds: float) -> int:
        """Places to keep free now for promises that are due, or will be before enough drained.

        Requests that started together end together.  So nothing is counted on to drain within the
        time that a seat is held.
        """
        self._expire(now)
        slices = self._slices
        if not slices:
            return 0
        current = _slice(now)
        due = sum(slices.get(at, 0) for at in range(self._expired_to, current + 1))
        most = float(due)
        horizon = min(2.0 * held_seconds + 1.0, HORIZON_SECONDS)
        for ahead in range(1, round(horizon / SLICE_SECONDS) + 1):
            due += slices.get(current + ahead, 0)
            drain_seconds = max(ahead * SLICE_SECONDS - held_seconds, 0.0)
            most = max(most, due - COUNTED_SHARE * per_second * drain_seconds)
        return math.ceil(most)

    def _close(self, promise: ReservedReturn) -> bool:
        if promise.closed:
            return False
        promise.closed = True
        at = _slice(promise.due)
        count = self._slices.get(at, 0)
        if not count:
            return False  # it was over before
        if count == 1:
            del self._slices[at]
            self.open = bool(self._slices)
        else:
            self._slices[at] = count - 1
        return True

    def _expire(self, now: float) -> None:
        oldest = _slice(now - GRACE_SECONDS)
        if oldest <= self._expired_to:
            return
        if self._slices:
            for at in [at for at in self._slices if at < oldest]:
                del self._slices[at]
            self.open = bool(self._slices)
        self._expired_to = oldest
        unowned = self._unowned
        while unowned and unowned[0][0] < now - GRACE_SECONDS:
            heapq.heappop(unowned)[2].closed = True
        if len(self._by_identity) > 2 * len(unowned) + 64:  # mostly of promises that are over
            self._by_identity = {}
            for entry in unowned:
                heapq.heappush(self._by_identity.setdefault(entry[2].identity, []), entry)


def _slice(at: float) -> int:
    return math.floor(at / SLICE_SECONDS)
