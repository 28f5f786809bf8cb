"""Capacity of one replica, measured while the service is saturated.

The configured `target` of RequestsPerSecond is a first guess. While every seat is taken, the completed
requests of ready replicas are their capacity. A sample is one turnover: as many completions as requests
were in flight at its start, and at least ten seconds. The first turnover of a saturated period is
dropped, because its requests arrived at once. The last samples correct the target:

- lower than the target: at once, by the upper bound `mean + 2 x error`, and to at least half of the
  target (a queue that still grows is a backlog);
- higher than the target: only when *confirmed* (five samples, a hundred completed requests, a relative
  error of at most 10 %), by the lower bound `mean - 2 x error`, and to at most double the target. So a
  noisy estimate never lowers a count below what the target gives.

The error is the standard error of the samples' mean, and at least that of a Poisson count of the
completions. Samples expire after six hours: requests and engines change, and a count that became too
high is never saturated again and would give no new sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.signals.demand import Demand

REMEMBERED = 20
FULL_SHARE = 0.95
SHORTEST_SECONDS = 10.0
CONFIRMED_SAMPLES = 5
CONFIRMED_FINISHED = 100.0
CONFIRMED_ERROR = 0.1
DEVIATIONS = 2.0
LARGEST_FACTOR = 2.0
FORGOTTEN_SECONDS = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class CapacitySample:
    """One turnover that ended at `at`: completed requests and the replica-seconds they took."""

    at: float
    finished: float
    replica_seconds: float

    @property
    def rate(self) -> float:
        """Requests/s of one replica."""
        return self.finished / self.replica_seconds


@dataclass(frozen=True, slots=True)
class SaturationPeriod:
    """A current period of saturation; its present turnover began at `since` (seconds).

    `completed`: counter at the start of the turnover; `in_flight`: requests in flight then; `warm`: the
    first turnover is over.
    """

    replicas: int
    since: float
    completed: float
    in_flight: float
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """Capacity of one replica in requests/s, its standard error, and the data behind both."""

    mean: float
    error: float
    samples: int
    finished: float

    @property
    def confirmed(self) -> bool:
        """Whether the estimate may lower a count."""
        return (
            self.samples >= CONFIRMED_SAMPLES
            and self.finished >= CONFIRMED_FINISHED
            and self.error <= CONFIRMED_ERROR * self.mean
        )

    def corrected(self, figure: float) -> float:
        """Return the capacity to plan with, given the configured `figure` (both in requests/s)."""
        high = self.mean + DEVIATIONS * self.error
        if high < figure:
            return max(high, figure / LARGEST_FACTOR)
        low = self.mean - DEVIATIONS * self.error
        if self.confirmed and low > figure:
            return min(low, LARGEST_FACTOR * figure)
        return figure


@dataclass(frozen=True, slots=True)
class LearnedCapacity:
    """The last samples of one resource; `LearnedCapacity()` has none."""

    samples: tuple[CapacitySample, ...] = ()
    saturation: SaturationPeriod | None = None

    def with_observation(
        self, demand: Demand | Unavailable, ready: int, now: float
    ) -> LearnedCapacity:
        """Add the demand at `now` (seconds) of a service with `ready` replicas."""
        if self.samples and now - self.samples[0].at > FORGOTTEN_SECONDS:
            return replace(self, samples=self.samples[1:]).with_observation(demand, ready, now)
        if isinstance(demand, Unavailable) or not _saturated(demand, ready):
            return self if self.saturation is None else replace(self, saturation=None)
        completed, saturation = demand.completed, self.saturation
        if completed is None:
            return self
        fresh = SaturationPeriod(ready, now, completed, demand.in_flight)
        if saturation is None or saturation.replicas != ready or completed < saturation.completed:
            return replace(self, saturation=fresh)
        finished, seconds = completed - saturation.completed, now - saturation.since
        if finished < max(1.0, saturation.in_flight) or seconds < SHORTEST_SECONDS:
            return self
        after = replace(fresh, warm=True)
        if not saturation.warm:
            return replace(self, saturation=after)
        sample = CapacitySample(now, finished, seconds * ready)
        return LearnedCapacity((*self.samples, sample)[-REMEMBERED:], after)

    def estimate(self) -> Estimate | None:
        """Return the estimate of the samples; None before there are two."""
        count = len(self.samples)
        if count < 2:
            return None
        finished = sum(sample.finished for sample in self.samples)
        replica_seconds = sum(sample.replica_seconds for sample in self.samples)
        mean = finished / replica_seconds
        # Samples are weighted by their replica-seconds, and so is their scatter.
        scatter = sum(s.replica_seconds * (s.rate - mean) ** 2 for s in self.samples)
        spread = math.sqrt(scatter / replica_seconds / (count - 1))
        return Estimate(mean, max(spread, math.sqrt(finished) / replica_seconds), count, finished)


def with_learned(policy: ScalingPolicy, learned: LearnedCapacity) -> ScalingPolicy:
    """Return the policy with its RequestsPerSecond target corrected by the measured capacity."""
    estimate = learned.estimate()
    if estimate is None:
        return policy
    return replace(policy, metrics=tuple(_corrected(metric, estimate) for metric in policy.metrics))


def _corrected(metric: MetricTarget, estimate: Estimate) -> MetricTarget:
    if metric.type is not MetricType.REQUESTS_PER_SECOND:
        return metric
    return replace(metric, target=estimate.corrected(metric.target))


def _saturated(demand: Demand, ready: int) -> bool:
    """Whether all seats are taken; a queue alone may be due to reserved seats."""
    if ready < 1 or demand.missing or not math.isfinite(demand.in_flight):
        return False
    if demand.seats > 0:
        return demand.in_flight >= FULL_SHARE * demand.seats
    return demand.queued > 0
