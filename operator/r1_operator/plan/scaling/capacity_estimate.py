"""What one replica can finish, learned while it was saturated.

The CR's `target` of RequestsPerSecond is a guess and the start. While every seat is taken, the
requests that ready replicas finish are what they *can* finish. A sample is one turn-over: as many
requests finished as were in flight when it began, at least ten seconds; the first turn-over of a
saturated spell is thrown away, since its requests came at once. What the last samples say, with
its error, corrects the figure:

- lower than the figure: at once, as far as it is no chance: the upper bound, `mean + 2 x error`,
  and at least half of the figure (a queue that still grows is the backlog's to answer);
- higher than the figure: only when *proven* (five samples, a hundred finished requests, a
  relative error of at most 10 %), then by the lower bound, `mean - 2 x error`, and to at most
  double the figure. So a noisy estimate never lowers a count below what the figure says.

The error is the standard error of the samples' mean, and never below that of a Poisson count of
what finished. Samples are forgotten after six hours: requests and engines change, and a count that
became too high is never saturated again and would learn nothing new.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.signals.demand import Demand
from r1_operator.plan.unavailable import Unavailable

REMEMBERED = 20
FULL_SHARE = 0.95
SHORTEST_SECONDS = 10.0
PROVEN_SAMPLES = 5
PROVEN_FINISHED = 100.0
PROVEN_ERROR = 0.1
DEVIATIONS = 2.0
LARGEST_FACTOR = 2.0
FORGOTTEN_SECONDS = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One turn-over that ended at `at`: requests finished, and by how many replica-seconds."""

    at: float
    finished: float
    replica_seconds: float

    @property
    def rate(self) -> float:
        """Requests/s of one replica."""
        return self.finished / self.replica_seconds


@dataclass(frozen=True, slots=True)
class SaturationPeriod:
    """A saturated time that goes on: since `since` (unix seconds) nothing about it changed.

    `completed` is the counter at the start of the present turn-over and `in_flight` the requests
    that ran then; `warm` says that a first turn-over is behind it.
    """

    replicas: int
    since: float
    completed: float
    in_flight: float
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests/s that one replica can finish, its standard error, and what they rest on."""

    mean: float
    error: float
    samples: int
    finished: float

    @property
    def proven(self) -> bool:
        """Whether it may lower a count."""
        return (
            self.samples >= PROVEN_SAMPLES
            and self.finished >= PROVEN_FINISHED
            and self.error <= PROVEN_ERROR * self.mean
        )

    def corrected(self, figure: float) -> float:
        """Return the capacity to plan with where the CR says `figure` (both in requests/s)."""
        high = self.mean + DEVIATIONS * self.error
        if high < figure:
            return max(high, figure / LARGEST_FACTOR)
        low = self.mean - DEVIATIONS * self.error
        if self.proven and low > figure:
            return min(low, LARGEST_FACTOR * figure)
        return figure


@dataclass(frozen=True, slots=True)
class LearnedCapacity:
    """The last samples of one resource; `LearnedCapacity()` knows nothing."""

    samples: tuple[Sample, ...] = ()
    spell: SaturationPeriod | None = None

    def watched(self, demand: Demand | Unavailable, ready: int, now: float) -> LearnedCapacity:
        """Take in a look at `now` (unix seconds) at a service with `ready` replicas."""
        if self.samples and now - self.samples[0].at > FORGOTTEN_SECONDS:
            return replace(self, samples=self.samples[1:]).watched(demand, ready, now)
        if isinstance(demand, Unavailable) or not _saturated(demand, ready):
            return self if self.spell is None else replace(self, spell=None)
        completed, spell = demand.completed, self.spell
        if completed is None:
            return self
        fresh = SaturationPeriod(ready, now, completed, demand.in_flight)
        if spell is None or spell.replicas != ready or completed < spell.completed:
            return replace(self, spell=fresh)
        finished, seconds = completed - spell.completed, now - spell.since
        if finished < max(1.0, spell.in_flight) or seconds < SHORTEST_SECONDS:
            return self
        after = replace(fresh, warm=True)
        if not spell.warm:
            return replace(self, spell=after)
        sample = Sample(now, finished, seconds * ready)
        return LearnedCapacity((*self.samples, sample)[-REMEMBERED:], after)

    def estimate(self) -> Estimate | None:
        """Return what the samples say; None before there are two."""
        count = len(self.samples)
        if count < 2:
            return None
        finished = sum(sample.finished for sample in self.samples)
        replica_seconds = sum(sample.replica_seconds for sample in self.samples)
        mean = finished / replica_seconds
        # Samples weigh by what they rest on, so their scatter does too.
        scatter = sum(s.replica_seconds * (s.rate - mean) ** 2 for s in self.samples)
        spread = math.sqrt(scatter / replica_seconds / (count - 1))
        return Estimate(mean, max(spread, math.sqrt(finished) / replica_seconds), count, finished)


def with_learned(policy: ScalingPolicy, learned: LearnedCapacity) -> ScalingPolicy:
    """Return the policy with the RequestsPerSecond figure corrected by what was learned."""
    estimate = learned.estimate()
    if estimate is None:
        return policy
    return replace(policy, metrics=tuple(_corrected(metric, estimate) for metric in policy.metrics))


def _corrected(metric: MetricTarget, estimate: Estimate) -> MetricTarget:
    if metric.type is not MetricType.REQUESTS_PER_SECOND:
        return metric
    return replace(metric, target=estimate.corrected(metric.target))


def _saturated(demand: Demand, ready: int) -> bool:
    """Whether all that serves is full; a queue alone may be one that is held back on purpose."""
    if ready < 1 or demand.missing or not math.isfinite(demand.in_flight):
        return False
    if demand.seats > 0:
        return demand.in_flight >= FULL_SHARE * demand.seats
    return demand.queued > 0
