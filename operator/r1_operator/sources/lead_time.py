"""Measured start-up time of the replicas of each resource.

The start-up time runs from the condition PodScheduled to the first Ready of the first start of the
engine container. The wait for a node comes before it and is measured separately.

The last transition of Ready is the first one only for a pod that has not lost Ready since. The startup
probe ends a container that is not ready within its budget. A Ready that came later after the start of
the container is therefore not the first, and the pod is not measured. Each pod is measured once, when it
is first observed ready. A pod with a restarted engine is not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.snapshot import Pod

DEFAULT_SECONDS = 60.0
LONGEST_START_SECONDS = 600.0
"""Upper bound of a start-up without a startup probe: the default of `progressDeadlineSeconds`."""
LONGEST_NODE_WAIT_SECONDS = 600.0
"""Upper bound of the wait for a node: longer than node autoscalers take."""
OUTLIER_FACTOR = 3.0
"""A single start-up that took this many times the next longest is an outlier."""
_PROBE_SLACK_SECONDS = 30.0
_MAX_SAMPLES = 20
_QUANTILE = 0.9


@dataclass(slots=True)
class StartTimes:
    """The last start-up times of the pods of one resource, and their waits for a node (seconds)."""

    seconds: tuple[float, ...] = ()
    node_waits: tuple[float, ...] = ()
    _measured: frozenset[str] = frozenset()

    def observe(self, pods: Sequence[Pod]) -> None:
        """Measure the pods that have become ready since the last call."""
        fresh = [pod for pod in pods if pod.ready_at is not None and pod.uid not in self._measured]
        if not fresh:
            return
        for pod in fresh:
            took = start_seconds(pod)
            if took is None or pod.scheduled_at is None:
                continue
            wait = max(0.0, pod.scheduled_at - pod.created_at)
            self.seconds = (*self.seconds, took)[-_MAX_SAMPLES:]
            self.node_waits = (*self.node_waits, wait)[-_MAX_SAMPLES:]
        self._measured = frozenset(
            pod.uid for pod in pods if pod.ready_at is not None or pod.uid in self._measured
        )

    def lead(self, decision_seconds: float) -> LeadTime:
        """The 0.9 quantile (nearest rank) of start-up times plus the time to the next decision.

        A single outlier is excluded.
        """
        start = quantile(_without_outlier(self.seconds), _QUANTILE, DEFAULT_SECONDS)
        wait = min(quantile(self.node_waits, 0.5, 0.0), LONGEST_NODE_WAIT_SECONDS)
        return LeadTime(start + decision_seconds, len(self.seconds), wait)


def start_seconds(pod: Pod) -> float | None:
    """Seconds from PodScheduled to the first Ready; None if the timestamps do not give it.

    The startup probe's budget is the upper bound: a longer start-up has failed.
    """
    if pod.ready_at is None or pod.scheduled_at is None or pod.restarts:
        return None
    budget = LONGEST_START_SECONDS if pod.startup_seconds is None else pod.startup_seconds
    # Without a container start, the whole time since PodScheduled has to fit into the budget.
    began = pod.scheduled_at if pod.started_at is None else pod.started_at
    if pod.ready_at - began > budget + _PROBE_SLACK_SECONDS:
        return None
    return min(max(0.0, pod.ready_at - pod.scheduled_at), budget)


def _without_outlier(values: Sequence[float]) -> Sequence[float]:
    ordered = sorted(values)
    if len(ordered) > 1 and ordered[-1] > OUTLIER_FACTOR * max(ordered[-2], 1.0):
        return ordered[:-1]
    return ordered


def quantile(values: Iterable[float], level: float, default: float) -> float:
    """The nearest-rank quantile; `default` without values."""
    ordered = sorted(values)
    if not ordered:
        return default
    return ordered[min(len(ordered) - 1, max(0, math.ceil(level * len(ordered)) - 1))]
