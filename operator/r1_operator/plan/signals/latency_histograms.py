"""How long requests took lately, out of the gateways' histograms.

A gateway counts durations in buckets since its own start; a window keeps a minute of those counts
and takes differences, as `demand.py` does with plain counters. Differences of buckets give the mean
exactly and a percentile to within its bucket (linear in between, as Prometheus does).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.gateway_time import age, elapsed, is_restart
from r1_operator.plan.unavailable import Unavailable

SHORT_SECONDS = 30.0
LONG_SECONDS = 120.0
FEW = 5
STALE_SECONDS = 15.0
SPACING_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LatencyHistogram:
    """Counts between the upper bounds (seconds; one count more, for what is longer), and the sum."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    total_seconds: float

    @property
    def count(self) -> float:
        """How many requests."""
        return sum(self.counts)

    def plus(self, other: LatencyHistogram) -> LatencyHistogram:
        """Both together; `ValueError` where the bounds differ."""
        return self._combined(other, 1.0)

    def since(self, earlier: LatencyHistogram) -> LatencyHistogram | None:
        """What came after `earlier`; None when a counter fell, as at a restart."""
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
        """Seconds, None for no requests."""
        return self.total_seconds / self.count if self.count > 0 else None

    def quantile(self, level: float) -> float | None:
        """Seconds that the share `level` kept to; the last bound for whatever is longer."""
        wanted, seen, low = level * self.count, 0.0, 0.0
        if self.count <= 0:
            return None
        for high, count in zip(self.bounds, self.counts, strict=False):
            if count > 0 and seen + count >= wanted:
                return low + (high - low) * max(0.0, wanted - seen) / count
            seen, low = seen + count, high
        return self.bounds[-1]


@dataclass(frozen=True, slots=True)
class LatencySample:
    """One gateway's histograms of one resource, by class, and the oldest wait of each class.

    `at` and `started_at` are the gateway's wall clock (unix seconds), `received_at` is the operator's
    monotonic time, `uptime` the gateway's (None from an earlier release); all in seconds.
    """

    gateway: str
    started_at: float
    at: float
    received_at: float
    first_token: Mapping[ClassName, LatencyHistogram] = field(default_factory=dict)
    whole: Mapping[ClassName, LatencyHistogram] = field(default_factory=dict)
    oldest_wait: Mapping[ClassName, float] = field(default_factory=dict)
    uptime: float | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """A sample: `at` is the gateway's time since the first one kept, `age` the time since its start
    (seconds, infinite where the start is not known).
    """

    sample: LatencySample
    at: float
    age: float


@dataclass(frozen=True, slots=True)
class Recent:
    """What finished in the last `seconds`."""

    durations: LatencyHistogram
    seconds: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """What finished lately and the oldest wait (seconds), by class."""

    first_token: Mapping[ClassName, Recent] = field(default_factory=dict)
    whole: Mapping[ClassName, Recent] = field(default_factory=dict)
    oldest_wait: Mapping[ClassName, float] = field(default_factory=dict)


@dataclass(slots=True)
class LatencyWindow:
    """The last two minutes of every gateway's histograms of one resource.

    Half a minute is what counts, so that a step up shows as soon as it works; where fewer than
    `FEW` requests finished in it, the whole window does.
    """

    stale_seconds: float = STALE_SECONDS
    _samples: dict[str, list[_Kept]] = field(default_factory=dict)

    def observe(self, sample: LatencySample) -> None:
        """Take in a sample; a restart of the gateway begins anew."""
        kept = self._samples.setdefault(sample.gateway, [])
        if kept and is_restart(kept[-1].sample, sample):
            kept.clear()
        if not kept:
            kept.append(_Kept(sample, 0.0, age(sample)))
            return
        last = kept[-1]
        passed = elapsed(last.sample, sample)
        if passed <= 0:
            return
        newest = _Kept(sample, last.at + passed, last.age + passed)
        # The newest moves along until it is far enough from the one before.
        if len(kept) > 1 and last.at - kept[-2].at < SPACING_SECONDS:
            kept[-1] = newest
        else:
            kept.append(newest)
        # One at or before the window's start stays, to measure the whole window.
        while len(kept) > 2 and kept[1].at <= newest.at - LONG_SECONDS:
            del kept[0]

    def read(self, now: float, gateways: Collection[str] | None = None) -> Latencies | Unavailable:
        """Return what finished before `now` (the operator's monotonic clock).

        `gateways` are those that should be heard; one that is silent makes the answer
        `Unavailable`, since its requests may be the slow ones.
        """
        if gateways is not None:
            for gone in set(self._samples) - set(gateways):
                del self._samples[gone]
        expected = set(self._samples) if gateways is None else set(gateways)
        if not any(self._samples.get(name) for name in expected):
            return NOT_REPORTED
        heard: list[list[_Kept]] = []
        for name in sorted(expected):
            kept = self._samples.get(name)
            if not kept or now - kept[-1].sample.received_at > self.stale_seconds:
                return Unavailable("StaleLatency", f"Gateway {name} tells no latencies.")
            heard.append(kept)
        try:
            return Latencies(
                _recent([[one.sample.first_token for one in kept] for kept in heard], heard),
                _recent([[one.sample.whole for one in kept] for kept in heard], heard),
                {
                    name: max(kept[-1].sample.oldest_wait.get(name, 0.0) for kept in heard)
                    for name in ClassName
                },
            )
        except ValueError as error:
            return Unavailable("InvalidLatency", f"Gateways of two releases answer: {error}.")


NOT_REPORTED = Unavailable("NotReported", "No gateway has told latencies of this resource yet.")


def _recent(
    counters: Sequence[Sequence[Mapping[ClassName, LatencyHistogram]]],
    heard: Sequence[Sequence[_Kept]],
) -> dict[ClassName, Recent]:
    """Merge the gateways' increases, over the short span where that holds enough requests."""
    short, long = (
        _merged(_increase(each, kept, span) for each, kept in zip(counters, heard, strict=True))
        for span in (SHORT_SECONDS, LONG_SECONDS)
    )
    found: dict[ClassName, Recent] = {}
    for name, durations in long.items():
        if name in short and short[name].count >= FEW:
            found[name] = Recent(short[name], SHORT_SECONDS)
        elif durations.count > 0:
            found[name] = Recent(durations, LONG_SECONDS)
    return found


def _increase(
    counters: Sequence[Mapping[ClassName, LatencyHistogram]], kept: Sequence[_Kept], span: float
) -> dict[ClassName, LatencyHistogram]:
    newest = kept[-1]
    # A gateway younger than the span counted from zero within it.
    before: Mapping[ClassName, LatencyHistogram] = {}
    if newest.age > span:
        before = counters[0]
        for one, each in zip(kept, counters, strict=True):
            if one.at > newest.at - span + 1e-6:
                break
            before = each
    found: dict[ClassName, LatencyHistogram] = {}
    for name, durations in counters[-1].items():
        grown = durations.since(before[name]) if name in before else durations
        if grown is not None:
            found[name] = grown
    return found


def _merged(
    parts: Iterable[Mapping[ClassName, LatencyHistogram]],
) -> dict[ClassName, LatencyHistogram]:
    found: dict[ClassName, LatencyHistogram] = {}
    for part in parts:
        for name, durations in part.items():
            found[name] = durations if name not in found else found[name].plus(durations)
    return found
