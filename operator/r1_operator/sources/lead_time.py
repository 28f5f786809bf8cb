"""How long a replica takes to serve: measured, per resource, from its pods.

A start-up is the time from the node (the condition PodScheduled) to the first Ready of the first start
of the engine's container. The wait for a node comes before it and is measured apart.

Ready's last transition is the first one only for a pod that has not lost Ready since. A pod tells that
in part: the startup probe ends a container that is not ready within its budget, so a Ready that came
later after the container's start is not the first, and the pod is not measured. Each pod is measured
once, when it is first observed ready; one whose engine was restarted is not measured at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.snapshot import Pod

DEFAULT_SECONDS = 60.0
LONGEST_START_SECONDS = 600.0
"""Bound of a start-up without a startup probe: the default of `progressDeadlineSeconds`."""
LONGEST_NODE_WAIT_SECONDS = 600.0
"""Bound of the wait for a node: longer than node autoscalers take."""
OUTLIER_FACTOR = 3.0
"""A single start-up that took so many times the next longest is not typical."""
_PROBE_SLACK_SECONDS = 30.0
_REMEMBERED = 20
_QUANTILE = 0.9


@dataclass(slots=True)
class StartTimes:
    """The last start-up times of one resource's pods and their waits for a node (seconds)."""

    seconds: tuple[float, ...] = ()
    node_waits: tuple[float, ...] = ()
    _measured: frozenset[str] = frozenset()

    def observe(self, pods: Sequence[Pod]) -> None:
        """Measure pods that have become ready since the last look."""
        fresh = [pod for pod in pods if pod.ready_at is not None and pod.uid not in self._measured]
        if not fresh:
            return
        for pod in fresh:
            took = start_seconds(pod)
            if took is None or pod.scheduled_at is None:
                continue
            wait = max(0.0, pod.scheduled_at - pod.created_at)
            self.seconds = (*self.seconds, took)[-_REMEMBERED:]
            self.node_waits = (*self.node_waits, wait)[-_REMEMBERED:]
        self._measured = frozenset(
            pod.uid for pod in pods if pod.ready_at is not None or pod.uid in self._measured
        )

    def lead(self, decision_seconds: float) -> LeadTime:
        """The 90 % quantile (nearest rank) of start-up plus the time to the next decision.

        A single outlier does not count.
        """
        start = quantile(_without_outlier(self.seconds), _QUANTILE, DEFAULT_SECONDS)
        wait = min(quantile(self.node_waits, 0.5, 0.0), LONGEST_NODE_WAIT_SECONDS)
        return LeadTime(start + decision_seconds, len(self.seconds), wait)


def start_seconds(pod: Pod) -> float | None:
    """Seconds from the node to the first Ready; None where the pod's times do not give it.

    Bounded by the budget of the startup probe: a start-up that takes longer is a failed one.
    """
    if pod.ready_at is None or pod.scheduled_at is None or pod.restarts:
        return None
    budget = LONGEST_START_SECONDS if pod.startup_seconds is None else pod.startup_seconds
    # Without the container's start the whole time since the node has to fit into the budget.
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
    """The nearest-rank quantile, `default` for no values."""
    ordered = sorted(values)
    if not ordered:
        return default
    return ordered[min(len(ordered) - 1, max(0, math.ceil(level * len(ordered)) - 1))]
