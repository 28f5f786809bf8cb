"""What a trace is, once read: a rate over time or single requests, in the trace's own clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Quantiles = Mapping[float, float]
"""Level (0 to 1) -> value, levels from 0 to 1: an inverse distribution, linear in between."""


class UnreadableTrace(ValueError):
    """The file is in no format that is known; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class RateTrace:
    """Requests per minute in buckets of equal length; None where nothing was collected.

    `start` is the first bucket's own timestamp (seconds). Token quantiles are of lengths of
    requests, where the trace knows them.
    """

    name: str
    bucket_seconds: float
    per_minute: tuple[float | None, ...]
    start: float = 0.0
    prompt_tokens: Quantiles = field(default_factory=dict)
    output_tokens: Quantiles = field(default_factory=dict)
    source: str = ""

    @property
    def seconds(self) -> float:
        """The trace's length."""
        return len(self.per_minute) * self.bucket_seconds

    def part(self, first: int, last: int) -> RateTrace:
        """Return buckets `first` to `last` (exclusive) as a trace of its own."""
        return RateTrace(
            self.name,
            self.bucket_seconds,
            self.per_minute[first:last],
            self.start + first * self.bucket_seconds,
            self.prompt_tokens,
            self.output_tokens,
            self.source,
        )


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request of a trace: seconds from the trace's start, lengths in tokens."""

    at: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """Single requests in order of time."""

    name: str
    requests: tuple[RecordedRequest, ...]
    source: str = ""

    @property
    def seconds(self) -> float:
        """From the first to the last request, a second more so that both count."""
        return self.requests[-1].at - self.requests[0].at + 1 if self.requests else 0.0


Trace = RateTrace | RequestTrace


def bridge(per_minute: Sequence[float | None]) -> tuple[float, ...]:
    """Fill gaps with the straight line between their neighbours (flat at the ends).

    Raises UnreadableTrace when there is nothing to bridge between.
    """
    known = [index for index, value in enumerate(per_minute) if value is not None]
    if not known:
        raise UnreadableTrace("the trace has no bucket with data")
    filled: list[float] = []
    position = 0
    for index in range(len(per_minute)):
        while position + 1 < len(known) and known[position + 1] <= index:
            position += 1
        left = known[position]
        right = known[min(position + 1, len(known) - 1)]
        before, after = per_minute[left] or 0.0, per_minute[right] or 0.0
        share = 0.0 if right == left else (index - left) / (right - left)
        filled.append(before + (after - before) * min(max(share, 0.0), 1.0))
    return tuple(filled)


def inverse(quantiles: Quantiles, share: float) -> float:
    """Return the value below which `share` (0 to 1) of the distribution lies."""
    levels = sorted(quantiles)
    if share <= levels[0]:
        return quantiles[levels[0]]
    for low, high in pairwise(levels):
        if share <= high:
            part = (share - low) / (high - low)
            return quantiles[low] + (quantiles[high] - quantiles[low]) * part
    return quantiles[levels[-1]]
