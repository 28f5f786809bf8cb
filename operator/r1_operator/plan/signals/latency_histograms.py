"""Histogram of latencies, and what one gateway reports of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from r1_operator.api.scaling import ClassName


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Counts per bucket (upper bounds in seconds, one more count above them) and the sum."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total_seconds: float

    @property
    def count(self) -> float:
        """Number of requests."""
        return sum(self.counts)

    def plus(self, other: LatencyHistogram) -> LatencyHistogram:
        """Return the sum of both; `ValueError` where the bounds differ."""
        return self._combined(other, 1.0)

    def since(self, earlier: LatencyHistogram) -> LatencyHistogram | None:
        """Return the increase after `earlier`; None where a count fell. `ValueError` where the bounds differ."""
        difference = self._combined(earlier, -1.0)
        if difference.total_seconds < 0 or min(difference.counts) < 0:
            return None
        return difference

    def _combined(self, other: LatencyHistogram, sign: float) -> LatencyHistogram:
        if self.bounds != other.bounds:
            raise ValueError("histograms with different bounds")
        counts = tuple(a + sign * b for a, b in zip(self.counts, other.counts, strict=True))
        return LatencyHistogram(
            self.bounds, counts, self.total_seconds + sign * other.total_seconds
        )

    def mean(self) -> float | None:
        """Return the mean in seconds; None without requests."""
        return self.total_seconds / self.count if self.count > 0 else None

    def quantile(self, level: float) -> float | None:
        """Return the quantile in seconds; the last bound for longer latencies."""
        wanted, counted, low = level * self.count, 0.0, 0.0
        if self.count <= 0:
            return None
        for high, count in zip(self.bounds, self.counts, strict=False):
            if count > 0 and counted + count >= wanted:
                return low + (high - low) * max(0.0, wanted - counted) / count
            counted, low = counted + count, high
        return self.bounds[-1]


Histograms = Mapping[ClassName, LatencyHistogram]


@dataclass(frozen=True, slots=True)
class GatewayLatencies:
    """One gateway's histograms of one resource since its start, by class, in one response.

    `first_token`: times to first token; `whole`: times to the last byte; `oldest_wait`: wait of the
    oldest queued request (seconds).
    """

    first_token: Histograms = field(default_factory=dict)
    whole: Histograms = field(default_factory=dict)
    oldest_wait: Mapping[ClassName, float] = field(default_factory=dict)
