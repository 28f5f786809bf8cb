"""Counters of one route since the gateway's start.

Plain integers on the path of a request; ``/signals`` and ``/metrics`` read the same numbers.
Arrays are indexed by :class:`~r1_gateway.admission.classes.PriorityClass`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from r1_common.contracts.priority_classes import CLASSES

SECONDS_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
)  # fmt: skip
FIRST_OUTPUT_GUESS = 128.0
OUTPUT_MEMORY = 0.05


class Histogram:
    """Counts per bucket (upper bounds ``SECONDS_BUCKETS``, then infinity) and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.total += seconds


def _zeros() -> list[int]:
    return [0] * len(CLASSES)


def _histograms() -> list[Histogram]:
    return [Histogram() for _ in CLASSES]


@dataclass(slots=True)
class RouteStats:
    """Counters of one route."""

    offered_requests: list[int] = field(default_factory=_zeros)
    offered_tokens: list[int] = field(default_factory=_zeros)
    completed: list[int] = field(default_factory=_zeros)
    failed: list[int] = field(default_factory=_zeros)
    rejected: list[int] = field(default_factory=_zeros)
    cancelled: list[int] = field(default_factory=_zeros)
    slo_missed: list[int] = field(default_factory=_zeros)
    rejected_by_reason: Counter[tuple[int, str]] = field(default_factory=Counter)
    by_code: Counter[tuple[int, int]] = field(default_factory=Counter)
    ejections: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    queue_wait: list[Histogram] = field(default_factory=_histograms)
    time_to_first_token: list[Histogram] = field(default_factory=_histograms)
    time_per_output_token: list[Histogram] = field(default_factory=_histograms)
    latency: list[Histogram] = field(default_factory=_histograms)
    generated_tokens: list[int] = field(default_factory=_zeros)
    output_tokens: float = FIRST_OUTPUT_GUESS

    def estimate(self, prompt_bytes: int, max_tokens: int | None, width: int = 1) -> int:
        """Estimated tokens of a request.

        Prompt bytes / 4, plus the smaller of ``max_tokens`` for each of its ``width`` sequences and
        the recent mean output of this route's requests.
        """
        expected = self.output_tokens
        if max_tokens is not None and max_tokens * width < expected:
            expected = max_tokens * width
        return (prompt_bytes >> 2) + int(expected)

    def offer(self, klass: int, tokens: int) -> None:
        """Count an arrival: one request and its estimated tokens."""
        self.offered_requests[klass] += 1
        self.offered_tokens[klass] += tokens

    def generated(self, klass: int, tokens: int) -> None:
        """Count the tokens of a complete response, and update the mean output."""
        self.generated_tokens[klass] += tokens
        self.output_tokens += OUTPUT_MEMORY * (tokens - self.output_tokens)

    def reject(self, klass: int, reason: str, code: int) -> None:
        """Count a request that was rejected or expired in the queue."""
        self.rejected[klass] += 1
        self.rejected_by_reason[klass, reason] += 1
        self.by_code[klass, code] += 1
