"""Passive health: the outcomes of recent requests, and when a pod is worse than the rest of its pool.

A pod that fails fast always has free seats, so the choice by load sends it most of the requests.
Its answers are therefore compared with those of the other pods.  A pod is an outlier when

- its last ``CONSECUTIVE_FAILURES`` requests failed, or
- its failure share lies ``DEVIATIONS`` standard errors above that of the other pods (the
  two-proportion z-test with the pooled estimate),

and in both cases its failure share is more than twice that of the others.  The comparison tells a
broken pod from a request that breaks every pod: such a request raises the share of all of them.

Ejections last ``FIRST_EJECTION_SECONDS`` and double with each one, as in Envoy's outlier detection;
each ``FORGET_SECONDS`` in service take one off the count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SLICE_SECONDS = 15.0
"""Outcomes are counted in the current slice and the one before it."""
CONSECUTIVE_FAILURES = 3
FEWEST_REQUESTS = 5
DEVIATIONS = 3.0
WORSE_BY = 2.0
FIRST_EJECTION_SECONDS = 1.0
LONGEST_EJECTION_SECONDS = 60.0
FORGET_SECONDS = 60.0


@dataclass(slots=True)
class Outcomes:
    """Answers and failures of one pod, in this slice and in the one before."""

    good: int = 0
    bad: int = 0
    good_before: int = 0
    bad_before: int = 0
    consecutive: int = 0
    """failures since the last request that was answered completely"""

    @property
    def failures(self) -> int:
        """Failures in both slices."""
        return self.bad + self.bad_before

    @property
    def total(self) -> int:
        """Requests in both slices."""
        return self.good + self.good_before + self.failures

    def rotate(self, *, forget: bool) -> None:
        """Begin a new slice; ``forget`` when the current one is too old to be the one before."""
        self.good_before, self.bad_before = (0, 0) if forget else (self.good, self.bad)
        self.good = self.bad = 0


class PassiveHealth:
    """Outcomes of all pods of a route.  A success is two additions by the caller; slices turn at failures."""

    def __init__(self) -> None:
        self.everyone = Outcomes()
        """Sums over the pods; the head of a good answer counts as ``good`` of both."""
        self._slice_began = -math.inf

    def failed(
        self, pod: Outcomes, now: float, pods: Iterable[Outcomes], *, after_head: bool = False
    ) -> bool:
        """A request failed; True when the pod is an outlier.  ``pods`` are all of the route.

        ``after_head``: its head was counted as an answer before.
        """
        if now - self._slice_began >= SLICE_SECONDS:
            forget = now - self._slice_began >= 2 * SLICE_SECONDS
            self._slice_began = now
            for each in (*pods, self.everyone):
                each.rotate(forget=forget)
        if after_head:
            taken = min(pod.good, 1)
            pod.good -= taken
            self.everyone.good -= taken
        pod.bad += 1
        self.everyone.bad += 1
        pod.consecutive += 1
        return is_outlier(pod, self.everyone)

    def is_worse(self, pod: Outcomes) -> bool:
        """Whether the pod fails more than twice as often as the others, as far as these are known."""
        return _is_worse(pod, self.everyone)

    def forget(self, pod: Outcomes) -> None:
        """The pod left or started anew: its outcomes no longer count."""
        everyone = self.everyone
        everyone.good -= pod.good
        everyone.bad -= pod.bad
        everyone.good_before -= pod.good_before
        everyone.bad_before -= pod.bad_before
        pod.good = pod.bad = pod.good_before = pod.bad_before = pod.consecutive = 0


def is_outlier(pod: Outcomes, everyone: Outcomes) -> bool:
    """Whether the pod fails more than the other pods; ``everyone`` includes it."""
    failures, total = pod.failures, pod.total
    others, other_failures = everyone.total - total, everyone.failures - failures
    if not failures or not _is_worse(pod, everyone):
        return False
    if pod.consecutive >= CONSECUTIVE_FAILURES:
        return True
    if total < FEWEST_REQUESTS or not others:
        return False
    pooled = (failures + other_failures) / (total + others)
    error = math.sqrt(pooled * (1.0 - pooled) * (1.0 / total + 1.0 / others))
    return failures / total - other_failures / others > DEVIATIONS * error


def _is_worse(pod: Outcomes, everyone: Outcomes) -> bool:
    others, other_failures = everyone.total - pod.total, everyone.failures - pod.failures
    return not others or pod.failures * others > WORSE_BY * other_failures * pod.total


def ejection_seconds(count: int) -> float:
    """How long the ``count``-th ejection in a row lasts (the first is 1)."""
    return min(FIRST_EJECTION_SECONDS * 2.0 ** min(count - 1, 10), LONGEST_EJECTION_SECONDS)
