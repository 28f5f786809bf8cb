"""Passive health checks: outlier detection on the outcomes of recent requests.

A pod that fails fast always has free seats, so the choice by load sends it most requests.  Its
outcomes are therefore compared with those of the other pods.  A pod is an outlier when

- its last ``CONSECUTIVE_FAILURES`` requests failed, or
- its failure share lies ``DEVIATIONS`` standard errors above that of the other pods (the
  two-proportion z-test with the pooled estimate),

and in both cases its failure share is more than twice that of the others.  A request that fails on
every pod raises the share of all of them, so it ejects none.

The first ejection lasts ``FIRST_EJECTION_SECONDS`` and each further one twice as long, as in Envoy's
outlier detection.  Each ``FORGET_SECONDS`` in service reduce the count by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SLICE_SECONDS = 15.0
"""Length of a slice; outcomes count in the current slice and the one before."""
CONSECUTIVE_FAILURES = 3
FEWEST_REQUESTS = 5
DEVIATIONS = 3.0
WORSE_BY = 2.0
FIRST_EJECTION_SECONDS = 1.0
LONGEST_EJECTION_SECONDS = 60.0
FORGET_SECONDS = 60.0


@dataclass(slots=True)
class Outcomes:
    """Good and failed requests of one pod, in this slice and the one before."""

    good: int = 0
    bad: int = 0
    good_before: int = 0
    bad_before: int = 0
    consecutive: int = 0
    """Failures since the last complete response."""

    @property
    def failures(self) -> int:
        """Failures in both slices."""
        return self.bad + self.bad_before

    @property
    def total(self) -> int:
        """Requests in both slices."""
        return self.good + self.good_before + self.failures

    def rotate(self, *, forget: bool) -> None:
        """Begin a new slice; ``forget`` drops the current one as well, because it is too old."""
        self.good_before, self.bad_before = (0, 0) if forget else (self.good, self.bad)
        self.good = self.bad = 0


class PassiveHealth:
    """Outcomes of all pods of a route.

    The caller counts a success by two additions; slices rotate at failures.
    """

    def __init__(self) -> None:
        self.pool = Outcomes()
        """Sums over the pods; the head of a good response counts as ``good`` of both."""
        self._slice_began = -math.inf

    def failed(
        self, pod: Outcomes, now: float, pods: Iterable[Outcomes], *, after_head: bool = False
    ) -> bool:
        """Count a failure; True when the pod is an outlier.  ``pods`` are all pods of the route.

        ``after_head``: the head of the response was counted as good before.
        """
        if now - self._slice_began >= SLICE_SECONDS:
            forget = now - self._slice_began >= 2 * SLICE_SECONDS
            self._slice_began = now
            for each in (*pods, self.pool):
                each.rotate(forget=forget)
        if after_head:
            taken = min(pod.good, 1)
            pod.good -= taken
            self.pool.good -= taken
        pod.bad += 1
        self.pool.bad += 1
        pod.consecutive += 1
        return is_outlier(pod, self.pool)

    def is_worse(self, pod: Outcomes) -> bool:
        """Whether the pod fails more than twice as often as the others, or no other has requests."""
        return _is_worse(pod, self.pool)

    def forget(self, pod: Outcomes) -> None:
        """Remove the outcomes of a pod that was removed or has restarted."""
        pool = self.pool
        pool.good -= pod.good
        pool.bad -= pod.bad
        pool.good_before -= pod.good_before
        pool.bad_before -= pod.bad_before
        pod.good = pod.bad = pod.good_before = pod.bad_before = pod.consecutive = 0


def is_outlier(pod: Outcomes, pool: Outcomes) -> bool:
    """Whether the pod fails more than the other pods; ``pool`` includes it."""
    failures, total = pod.failures, pod.total
    others, other_failures = pool.total - total, pool.failures - failures
    if not failures or not _is_worse(pod, pool):
        return False
    if pod.consecutive >= CONSECUTIVE_FAILURES:
        return True
    if total < FEWEST_REQUESTS or not others:
        return False
    pooled = (failures + other_failures) / (total + others)
    error = math.sqrt(pooled * (1.0 - pooled) * (1.0 / total + 1.0 / others))
    return failures / total - other_failures / others > DEVIATIONS * error


def _is_worse(pod: Outcomes, pool: Outcomes) -> bool:
    others, other_failures = pool.total - pod.total, pool.failures - pod.failures
    return not others or pod.failures * others > WORSE_BY * other_failures * pod.total


def ejection_seconds(count: int) -> float:
    """Seconds of the ``count``-th ejection in a row, counted from 1."""
    return min(FIRST_EJECTION_SECONDS * 2.0 ** min(count - 1, 10), LONGEST_EJECTION_SECONDS)
