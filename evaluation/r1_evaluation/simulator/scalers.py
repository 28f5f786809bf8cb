"""Autoscalers of the request-level pool, all on requests per second.

`Ours` is `r1_operator.plan.scaling.decide.decide` on the gateway's counters, as the operator
reads them. The others are the leaderboard's rules on the mean rate of the last minute, without a
delay.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from r1_evaluation.baselines.knative_kubeai import Panic, knative_begin, knative_step
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling import hpa_simulation
from r1_operator.plan.scaling.decide import decide
from r1_operator.plan.scaling.inputs import ScalingInputs
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.signals.counter_store import CounterStore
from r1_operator.plan.signals.lead_time import LeadTime

TICK_SECONDS = 2.0
MAX_REPLICAS = 40


@dataclass(frozen=True, slots=True)
class ScalerInput:
    """Inputs of a tick: the gateway's sample, desired and ready replicas, seats."""

    sample: CounterSample
    current: int
    ready: int
    seats: int


class Scaler(Protocol):
    """An autoscaler with a tick every two seconds."""

    def tick(self, view: ScalerInput, now: float) -> int:
        """Return the desired replicas at `now`."""


class Ours:
    """The operator's decision without a forecast: an hour of a trace has no seasons."""

    def __init__(self, target: float, capacity: float, lead_seconds: float) -> None:
        metric = MetricTarget(MetricType.REQUESTS_PER_SECOND, capacity)
        self._policy = ScalingPolicy(1, MAX_REPLICAS, (metric,), target_utilization=target)
        self._lead = LeadTime(lead_seconds + TICK_SECONDS, 5)
        self._counters, self._history = CounterStore(), ScalingState()

    def tick(self, view: ScalerInput, now: float) -> int:
        """Return the desired replicas at `now`."""
        self._counters.observe(view.sample)
        observed = ScalingInputs(
            current=view.current,
            ready=view.ready,
            demand=self._counters.demand(now, lead_seconds=self._lead.seconds),
            seats_per_replica=view.seats,
            lead_time=self._lead,
        )
        decision, self._history = decide(self._policy, observed, self._history, now)
        return decision.replicas


class _Offered:
    """The mean rate of arrivals over a window."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=1 + round(60 / TICK_SECONDS))

    def note(self, sample: CounterSample) -> None:
        """Record the counter of a tick."""
        self._seen.append(sample.offered_requests)

    def rate(self, seconds: float) -> float:
        """Return requests per second over `seconds`, or over the recorded time when shorter."""
        looks = min(round(seconds / TICK_SECONDS), len(self._seen) - 1)
        return (self._seen[-1] - self._seen[-1 - looks]) / (looks * TICK_SECONDS) if looks else 0.0


class Hpa:
    """A HorizontalPodAutoscaler with defaults; `capacity` is a replica's requests per second."""

    def __init__(self, target: float, capacity: float) -> None:
        self._capacity = target * capacity
        self._offered = _Offered()
        self._state: hpa_simulation.HpaState | None = None

    def tick(self, view: ScalerInput, now: float) -> int:
        """Return the desired replicas at `now`."""
        self._offered.note(view.sample)
        state = self._state or hpa_simulation.HpaState(view.current)
        self._state = hpa_simulation.simulate_sync(
            state, self._offered.rate(60), self._capacity, 1, MAX_REPLICAS, now
        )
        return self._state.replicas


class Knative:
    """Knative's KPA with defaults: the rate of 60 s and, in a panic, of 6 s."""

    def __init__(self, target: float, capacity: float) -> None:
        self._capacity = target * capacity
        self._offered = _Offered()
        self._panic: Panic | None = None

    def tick(self, view: ScalerInput, now: float) -> int:
        """Return the desired replicas at `now`."""
        self._offered.note(view.sample)
        stable, panic = (self._offered.rate(span) / self._capacity for span in (60, 6))
        state = self._panic or knative_begin(view.ready, now)
        count, self._panic = knative_step(state, view.ready, stable, panic, now)
        return min(max(count, 1), MAX_REPLICAS)


class Static:
    """A fixed number that would carry the mean at the target."""

    def __init__(self, target: float, mean_replicas: float) -> None:
        self._count = max(1, math.ceil(mean_replicas / target))

    def tick(self, view: ScalerInput, now: float) -> int:
        """Return the desired replicas at `now`."""
        return self._count
