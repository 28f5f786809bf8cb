"""Demand from the gateways' counters.

Scaling follows the *offered* load, never the completed one: an under-scaled service completes less, which
would look like less demand. The counter store (`counter_store.py`) adds up what each gateway counts; the
sums here keep the last minute of it.

A rate over a minute is late, and a rate over ten seconds is noisy. So the demand is the largest of three
rates. The rates over 10 s and 30 s count with their lower bound under a Poisson count
(`rate x (1 - 2 / sqrt(arrivals))`). A span shorter than the lead time is skipped: such a burst ends
before a new replica could serve it.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.signals.counter_rates import SHORTEST_SECONDS, CounterPoint, Rates, rates_over
from r1_operator.plan.signals.counter_sample import CounterIncrease, CounterSample

WINDOW_SECONDS = 60.0
BURST_SECONDS = (10.0, 30.0)
_POINTS_PER_WINDOW = 30
_BURST_DEVIATIONS = 2.0


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand on one resource, summed over its gateways.

    Rates are per second. `completed_per_replica`: completions of one ready replica, which is its
    capacity while requests are queued. `missing`: known gateways that do not answer; the figures are
    then a lower bound and may raise a count only. `completed`: completions since the gateways' first
    samples; it falls when a gateway leaves.
    """

    requests_per_second: float | Unavailable
    tokens_per_second: float | Unavailable
    in_flight: float
    queued: float
    oldest_wait_seconds: float
    completed_per_replica: float | Unavailable = 0.0
    rejected_per_second: float | Unavailable = 0.0
    buffered: float = 0.0
    seats: float = 0.0
    missing: tuple[str, ...] = ()
    completed: float | None = None


@dataclass(slots=True)
class DemandSums:
    """Counts of one gateway over the window.

    Point times and counts are sums since the first sample. At most about thirty points are kept, so that
    ten thousand resources fit in memory.
    """

    points: list[CounterPoint]

    def add(self, increase: CounterIncrease) -> None:
        """Add the counts between two samples."""
        last = self.points[-1]
        point = CounterPoint(
            last.at + increase.seconds,
            last.requests + increase.requests,
            last.tokens + increase.tokens,
            last.completed + increase.completed,
            last.rejected + increase.rejected,
            last.replica_seconds + increase.ready_seconds,
        )
        # The newest point is replaced until it is far enough from the one before it.
        spacing = WINDOW_SECONDS / _POINTS_PER_WINDOW
        if len(self.points) > 1 and last.at - self.points[-2].at < spacing:
            self.points[-1] = point
        else:
            self.points.append(point)
        # One point at or before the window's start stays, to cover the whole window.
        while len(self.points) > 2 and self.points[1].at <= point.at - WINDOW_SECONDS:
            del self.points[0]

    def add_since_start(self, increase: CounterIncrease) -> None:
        """Add what a gateway counted since its start, where that is within the window.

        The first sample of a young gateway then gives a rate. Sums are 0 at the first sample, so they
        are negative at the start of the gateway.
        """
        if 0 < increase.seconds <= WINDOW_SECONDS:
            self.points.insert(0, _start_of(increase))


def first_sums() -> DemandSums:
    """Return the sums of a first sample: the point with which the next one is compared."""
    return DemandSums([CounterPoint(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)])


def _start_of(increase: CounterIncrease) -> CounterPoint:
    return CounterPoint(
        -increase.seconds,
        -increase.requests,
        -increase.tokens,
        -increase.completed,
        -increase.rejected,
        -increase.ready_seconds,
    )


def demand_of(
    reporting: Collection[tuple[CounterSample, DemandSums]],
    missing: tuple[str, ...],
    lead_seconds: float,
) -> Demand:
    """Return the demand of the reporting gateways, at least one.

    `lead_seconds`: lead time of a replica.
    """
    newest = [sample for sample, _ in reporting]
    requests, tokens, finished, rejected = _rates([each for _, each in reporting], lead_seconds)
    return Demand(
        requests_per_second=requests,
        tokens_per_second=tokens,
        completed_per_replica=finished,
        rejected_per_second=rejected,
        in_flight=sum(sample.in_flight for sample in newest),
        queued=sum(sample.queued for sample in newest),
        buffered=sum(sample.buffered for sample in newest),
        seats=sum(sample.seats for sample in newest),  # each gateway has its own share of them
        oldest_wait_seconds=max(sample.oldest_wait_seconds for sample in newest),
        missing=missing,
        completed=sum(each.points[-1].completed for _, each in reporting),
    )


def _rates(sums: Collection[DemandSums], lead_seconds: float) -> tuple[float | Unavailable, ...]:
    """Return offered requests and tokens, completions per replica, and rejections, per second."""
    means = [rates_over(each.points, WINDOW_SECONDS) for each in sums]
    known = [each for each in means if each is not None]
    if len(known) < len(means):
        return (_WARMING_UP,) * 4
    requests = sum(each.requests for each in known)
    tokens = sum(each.tokens for each in known)
    for span in BURST_SECONDS:
        if span < lead_seconds:
            continue
        burst = [rates_over(each.points, span) for each in sums]
        known_bursts = [each for each in burst if each is not None]
        certain = _certain_share(known_bursts)
        requests = max(requests, certain * sum(each.requests for each in known_bursts))
        tokens = max(tokens, certain * sum(each.tokens for each in known_bursts))
    # All gateways route to the same pods; the highest count is the most recent one.
    replicas = max(each.replicas for each in known)
    completed = sum(each.completed for each in known)
    return (
        requests,
        tokens,
        completed / replicas if replicas > 0 else _NO_READY_REPLICA,
        sum(each.rejected for each in known),
    )


_WARMING_UP = Unavailable(
    "WarmingUp", f"A rate needs {SHORTEST_SECONDS:g} s of a gateway's counters."
)

_NO_READY_REPLICA = Unavailable("NoReadyReplica", "No replica was ready in the window.")


def _certain_share(burst: list[Rates]) -> float:
    """Return the share of a short span's rate that is not chance; 0 for few arrivals."""
    arrivals = sum(each.requests * each.seconds for each in burst)
    if arrivals <= _BURST_DEVIATIONS**2:
        return 0.0
    return 1 - _BURST_DEVIATIONS / math.sqrt(arrivals)
