"""How long a replica takes from being asked for to serving: measured, per resource.

From the pods themselves: accepted by the API server until first Ready. Ready's last transition is
the first one only for a pod that has not lost it since, so each pod is measured once, when it is
first seen ready, and one whose engine was restarted is not measured at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from r1_operator.plan.lead import LeadTime
from r1_operator.plan.snapshot import Pod

DEFAULT_SECONDS = 60.0
_REMEMBERED = 20
_QUANTILE = 0.9


@dataclass(slots=True)
class StartTimes:
    """The last start-up times (seconds) of one resource's pods."""

    seconds: tuple[float, ...] = ()
    _measured: tuple[str, ...] = ()

    def observe(self, pods: Iterable[Pod]) -> None:
        """Measure pods that have become ready since the last look."""
        for pod in pods:
            if pod.ready_at is None or pod.restarts or pod.uid in self._measured:
                continue
            took = max(0.0, pod.ready_at - pod.created_at)
            self.seconds = (*self.seconds, took)[-_REMEMBERED:]
            self._measured = (*self._measured, pod.uid)[-10 * _REMEMBERED :]

    def lead(self, decision_seconds: float) -> LeadTime:
        """The 90 % quantile (nearest rank) of start-up plus the time to the next decision."""
        start = quantile(self.seconds, _QUANTILE, DEFAULT_SECONDS)
        return LeadTime(start + decision_seconds, len(self.seconds))


def quantile(values: Iterable[float], level: float, default: float) -> float:
    """The nearest-rank quantile, `default` for no values."""
    ordered = sorted(values)
    if not ordered:
        return default
    return ordered[min(len(ordered) - 1, max(0, math.ceil(level * len(ordered)) - 1))]
