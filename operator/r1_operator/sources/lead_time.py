"""How long a replica takes from being asked for to serving: measured, per resource.

From the pods themselves: accepted by the API server until first Ready. Ready's last transition is
the first one only for a pod that has not lost it since, so each pod is measured once, when it is
first seen ready, and one whose engine was restarted is not measured at all.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from r1_operator.plan.snapshot import Pod

DEFAULT_SECONDS = 60.0
_REMEMBERED = 20
_QUANTILE = 0.9


@dataclass(slots=True)
class StartTimes:
    """The last start-up times (seconds) of one resource's pods."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _measured: deque[str] = field(default_factory=lambda: deque(maxlen=10 * _REMEMBERED))

    def observe(self, pods: Iterable[Pod]) -> None:
        """Measure pods that have become ready since the last look."""
        for pod in pods:
            if pod.ready_at is None or pod.restarts or pod.uid in self._measured:
                continue
            self._measured.append(pod.uid)
            self.seconds.append(max(0.0, pod.ready_at - pod.created_at))

    def lead_seconds(self, decision_seconds: float) -> float:
        """The 90 % quantile (nearest rank) of start-up plus the time to the next decision."""
        return quantile(self.seconds, _QUANTILE, DEFAULT_SECONDS) + decision_seconds


def quantile(values: Iterable[float], level: float, default: float) -> float:
    """The nearest-rank quantile, `default` for no values."""
    ordered = sorted(values)
    if not ordered:
        return default
    return ordered[min(len(ordered) - 1, max(0, math.ceil(level * len(ordered)) - 1))]
