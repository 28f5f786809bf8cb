"""Reserved returns: the place in the queue that stands behind a ``Retry-After``.

Rejected clients get different times, one for each place that is expected to become free, so they do
not return together.  Until then new requests cannot take these places: closed-loop clients fill
every freed place at once, and a client that waited would be rejected again.

A reserved return belongs to the connection that got the 429.  When that connection closes or carries
another request first (many clients share a pool of connections), the same request (its
``identity``) on any connection claims it.  An overdue one goes to the first request that arrives,
because a client may change its request: after ``UNMATCHED_SECONDS``, or earlier when few of the
latest returns were the same requests.

At most half of a queue is reserved, and a reserved return ends ``GRACE_SECONDS`` after it is due.
So clients that do not return cost others a bounded part of the queue for a bounded time.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

SHORTEST_SECONDS = 1
LONGEST_SECONDS = 60
GRACE_SECONDS = 1.0
UNMATCHED_SECONDS = 0.5
WEIGHT = 0.05
RESERVED_SHARE = 0.9
"""Share of the drain that is reserved; the rest is for clients that were not rejected before."""
COUNTED_SHARE = 0.5
"""Share of the drain until the due time that counts as free for a reserved return."""
HORIZON_SECONDS = 10.0
SLICE_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class ReservedReturn:
    """A place in a queue from ``due`` on (monotonic seconds)."""

    returns: ReservedReturns
    due: float
    identity: int = 0
    attached: bool = True
    closed: bool = False

    def detach(self) -> None:
        """The connection closed or carries another request: any connection may claim the place."""
        if self.attached:
            self.attached = False
            self.returns.make_claimable(self)


class ReservedReturns:
    """Reserved returns of one queue; O(log n) per request in the number of open ones."""

    def __init__(self) -> None:
        self._ahead = 0.0  # places reserved that are not yet expected to be free, at that time
        self._counted_at = 0.0
        self._slices: dict[int, int] = {}  # open ones by the slice in which they are due
        self.open = False
        """Whether any reserved return may still be open."""
        # Those that any connection may claim, by due time and by identity.
        self._detached: list[tuple[float, int, ReservedReturn]] = []
        self._by_identity: dict[int, list[tuple[float, int, ReservedReturn]]] = {}
        self._detached_count = 0
        self._matched_share = 1.0
        """Share of the latest claims that were made by the same request."""
        self._expired_to = 0

    def reserve(
        self,
        now: float,
        per_second: float,
        occupancy_seconds: float,
        places: int,
        identity: int = 0,
    ) -> tuple[int, ReservedReturn | None]:
        """Whole seconds after which to return, and the place that is reserved for then.

        ``per_second`` is the rate at which places become free, ``occupancy_seconds`` the time within
        which requests that started together end, ``places`` the most that may be reserved.  None
        when all places that become free within ``LONGEST_SECONDS`` are reserved already.
        """
        rate = RESERVED_SHARE * per_second
        self._ahead = max(self._ahead - rate * (now - self._counted_at), 0.0)
        self._counted_at = now
        if self._ahead + 1.0 > rate * LONGEST_SECONDS:
            return LONGEST_SECONDS, None
        seconds = max(math.ceil((self._ahead + 1.0) / rate), SHORTEST_SECONDS)
        self._expire(now)
        while self._due_before(now + seconds, occupancy_seconds) >= max(places, 1):
            seconds += 1
            if seconds > LONGEST_SECONDS:
                return LONGEST_SECONDS, None
        self._ahead += 1.0
        reserved_return = ReservedReturn(self, now + seconds, identity)
        at = _slice(reserved_return.due)
        self.open = True
        self._slices[at] = self._slices.get(at, 0) + 1
        return seconds, reserved_return

    def _due_before(self, due: float, occupancy_seconds: float) -> int:
        """Reserved returns that fall due while the same requests are in flight: they add up."""
        last = _slice(due)
        first = last - math.ceil(min(occupancy_seconds, 1.0) / SLICE_SECONDS) + 1
        return sum(self._slices.get(at, 0) for at in range(first, last + 1))

    def claim(self, reserved_return: ReservedReturn | None, now: float, identity: int = 0) -> bool:
        """Whether a request that arrives now, on a connection with ``reserved_return``, is a return."""
        self._expire(now)
        if reserved_return is not None and reserved_return.attached:
            if reserved_return.returns is self and reserved_return.due <= now:
                reserved_return.attached = False
                return self._close(reserved_return)
            reserved_return.detach()
        same = self._by_identity.get(identity)
        if same is not None and self._take(same, now):
            self._matched_share += WEIGHT * (1.0 - self._matched_share)
            return True
        if self._take(self._detached, now - UNMATCHED_SECONDS * self._matched_share):
            self._matched_share -= WEIGHT * self._matched_share
            return True
        return False

    def _take(self, heap: list[tuple[float, int, ReservedReturn]], due: float) -> bool:
        """Close the first entry of the heap that is open and was due by then."""
        while heap and heap[0][0] <= due:
            if self._close(heapq.heappop(heap)[2]):
                return True
        return False

    def make_claimable(self, reserved_return: ReservedReturn) -> None:
        """Let any connection claim the place."""
        if reserved_return.closed:
            return
        self._detached_count += 1
        entry = (reserved_return.due, self._detached_count, reserved_return)
        heapq.heappush(self._detached, entry)
        heapq.heappush(self._by_identity.setdefault(reserved_return.identity, []), entry)

    def reserved_places(self, now: float, per_second: float, occupancy_seconds: float) -> int:
        """Places to keep free now for returns that are due, or due before enough places drain.

        Requests that started together end together, so no drain is expected within the mean time
        that a seat is occupied.
        """
        self._expire(now)
        slices = self._slices
        if not slices:
            return 0
        current = _slice(now)
        due = sum(slices.get(at, 0) for at in range(self._expired_to, current + 1))
        most = float(due)
        horizon = min(2.0 * occupancy_seconds + 1.0, HORIZON_SECONDS)
        for ahead in range(1, round(horizon / SLICE_SECONDS) + 1):
            due += slices.get(current + ahead, 0)
            drain_seconds = max(ahead * SLICE_SECONDS - occupancy_seconds, 0.0)
            most = max(most, due - COUNTED_SHARE * per_second * drain_seconds)
        return math.ceil(most)

    def _close(self, reserved_return: ReservedReturn) -> bool:
        if reserved_return.closed:
            return False
        reserved_return.closed = True
        at = _slice(reserved_return.due)
        count = self._slices.get(at, 0)
        if not count:
            return False  # it had expired
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
        detached = self._detached
        while detached and detached[0][0] < now - GRACE_SECONDS:
            heapq.heappop(detached)[2].closed = True
        if len(self._by_identity) > 2 * len(detached) + 64:  # mostly of expired ones
            self._by_identity = {}
            for entry in detached:
                heapq.heappush(self._by_identity.setdefault(entry[2].identity, []), entry)


def _slice(at: float) -> int:
    return math.floor(at / SLICE_SECONDS)
