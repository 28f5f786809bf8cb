"""Recent request latencies from the gateways' histograms.

A gateway counts latencies in buckets since its own start. A window keeps two minutes of the counts and takes
differences, as `demand.py` does with counters. The differences give an exact mean and a percentile to
within its bucket (linear interpolation, as in Prometheus).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.gateway_time import age, elapsed, is_restart

SHORT_SECONDS = 30.0
LONG_SECONDS = 120.0
FEW = 5
STALE_SECONDS = 15.0
SPACING_SECONDS = 5.0


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
        """Return the increase after `earlier`; None where a counter fell, as at a restart."""
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


@dataclass(frozen=True, slots=True)
class LatencySample:
    """One gateway's histograms of one resource, by class, and the oldest wait of each class.

    `at` and `started_at`: the gateway's wall clock (unix seconds). `received_at`: the operator's monotonic
    time. `uptime`: the gateway's monotonic time (None from an earlier release). All in seconds.
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
class _TimedSample:
    """A sample with `at`, the gateway's time since the first stored sample, and `age`, the time since its
    start (seconds, infinite where unknown).
    """

    sample: LatencySample
    at: float
    age: float


@dataclass(frozen=True, slots=True)
class Recent:
    """Histogram of requests completed in the last `seconds`."""

    durations: LatencyHistogram
    seconds: float


@dataclass(frozen=True, slots=True)
class Latencies:
    """Recent latencies and the oldest wait (seconds), by class."""

    first_token: Mapping[ClassName, Recent] = field(default_factory=dict)
    whole: Mapping[ClassName, Recent] = field(default_factory=dict)
    oldest_wait: Mapping[ClassName, float] = field(default_factory=dict)


@dataclass(slots=True)
class LatencyWindow:
    """The last two minutes of every gateway's histograms of one resource.

    The last 30 s count, so that a step up shows as soon as it takes effect. With fewer than `FEW`
    completions in them the whole window counts.
    """

    stale_seconds: float = STALE_SECONDS
    _samples: dict[str, list[_TimedSample]] = field(default_factory=dict)

    def observe(self, sample: LatencySample) -> None:
        """Add a sample; a restart of the gateway drops the earlier ones."""
        samples = self._samples.setdefault(sample.gateway, [])
        if samples and is_restart(samples[-1].sample, sample):
            samples.clear()
        if not samples:
            samples.append(_TimedSample(sample, 0.0, age(sample)))
            return
        last = samples[-1]
        passed = elapsed(last.sample, sample)
        if passed <= 0:
            return
        newest = _TimedSample(sample, last.at + passed, last.age + passed)
        # The newest sample is replaced until it is far enough from the one before.
        if len(samples) > 1 and last.at - samples[-2].at < SPACING_SECONDS:
            samples[-1] = newest
        else:
            samples.append(newest)
        # One sample at or before the window's start stays, to cover the whole window.
        while len(samples) > 2 and samples[1].at <= newest.at - LONG_SECONDS:
            del samples[0]

    def read(self, now: float, gateways: Collection[str] | None = None) -> Latencies | Unavailable:
        """Return the recent latencies at `now` (the operator's monotonic clock).

        `gateways`: the expected ones. A gateway that does not answer makes the result `Unavailable`,
        because its requests may be the slow ones.
        """
        if gateways is not None:
            for gone in set(self._samples) - set(gateways):
                del self._samples[gone]
        expected = set(self._samples) if gateways is None else set(gateways)
        if not any(self._samples.get(name) for name in expected):
            return NOT_REPORTED
        reporting: list[list[_TimedSample]] = []
        for name in sorted(expected):
            samples = self._samples.get(name)
            if not samples or now - samples[-1].sample.received_at > self.stale_seconds:
                return Unavailable("StaleLatency", f"Gateway {name} reports no latencies.")
            reporting.append(samples)
        try:
            return Latencies(
                _recent(
                    [[one.sample.first_token for one in samples] for samples in reporting],
                    reporting,
                ),
                _recent(
                    [[one.sample.whole for one in samples] for samples in reporting], reporting
                ),
                {
                    name: max(
                        samples[-1].sample.oldest_wait.get(name, 0.0) for samples in reporting
                    )
                    for name in ClassName
                },
            )
        except ValueError as error:
            return Unavailable("InvalidLatency", f"The gateways run different releases: {error}.")


NOT_REPORTED = Unavailable("NotReported", "No gateway has reported latencies of this resource yet.")


def _recent(
    counters: Sequence[Sequence[Mapping[ClassName, LatencyHistogram]]],
    reporting: Sequence[Sequence[_TimedSample]],
) -> dict[ClassName, Recent]:
    """Merge the gateways' increases, over the short span where it has enough requests."""
    short, long = (
        _merged(
            _increase(each, samples, span)
            for each, samples in zip(counters, reporting, strict=True)
        )
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
    counters: Sequence[Mapping[ClassName, LatencyHistogram]],
    samples: Sequence[_TimedSample],
    span: float,
) -> dict[ClassName, LatencyHistogram]:
    newest = samples[-1]
    # The counters of a gateway younger than the span started at zero within it.
    before: Mapping[ClassName, LatencyHistogram] = {}
    if newest.age > span:
        before = counters[0]
        for one, each in zip(samples, counters, strict=True):
            if one.at > newest.at - span + 1e-6:
                break
            before = each
    found: dict[ClassName, LatencyHistogram] = {}
    for name, durations in counters[-1].items():
        increase = durations.since(before[name]) if name in before else durations
        if increase is not None:
            found[name] = increase
    return found


def _merged(
    parts: Iterable[Mapping[ClassName, LatencyHistogram]],
) -> dict[ClassName, LatencyHistogram]:
    found: dict[ClassName, LatencyHistogram] = {}
    for part in parts:
        for name, durations in part.items():
            found[name] = durations if name not in found else found[name].plus(durations)
    return found
