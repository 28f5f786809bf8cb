"""Recent request latencies from the gateways' histograms.

A gateway counts latencies in buckets since its own start. The counter store (`counter_store.py`) takes the
differences; the sums here keep two minutes of them. They give an exact mean and a percentile to
within its bucket (linear interpolation, as in Prometheus).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName
from r1_operator.plan.signals.latency_histograms import (
    GatewayLatencies,
    Histograms,
    LatencyHistogram,
)

SHORT_SECONDS = 30.0
LONG_SECONDS = 120.0
FEW = 5
SPACING_SECONDS = 5.0
GAP_SECONDS = 15.0
"""Longest time between the start of a span and the point before it; more is a gap without samples."""


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


@dataclass(frozen=True, slots=True)
class _Point:
    """Sums of the counts since the first point, `at` seconds of the gateway's time."""

    at: float
    first_token: Histograms = field(default_factory=dict)
    whole: Histograms = field(default_factory=dict)


@dataclass(slots=True)
class LatencySums:
    """Latencies of one gateway over the last two minutes.

    The last 30 s count, so that a step up shows as soon as it takes effect. With fewer than `FEW`
    completions in them the whole window counts.
    """

    newest: GatewayLatencies | None = None
    points: list[_Point] = field(default_factory=list)
    _at: float = 0.0
    """time of the newest accepted sample, with or without latencies"""

    @property
    def reported(self) -> bool:
        """Whether the newest accepted sample had latencies."""
        return self.newest is not None and self.points[-1].at == self._at

    def add(
        self, latencies: GatewayLatencies | None, seconds: float, age: float, *, restarted: bool
    ) -> None:
        """Add a sample, `seconds` after the one before; `age`: time since the gateway's start.

        None: the sample has no latencies, or no SLO target reads them.
        """
        self._at += seconds
        if restarted and self.newest is not None:
            self.newest = GatewayLatencies()  # the new process counts from zero
        if latencies is None:
            return
        if self.newest is None or self._at - self.points[-1].at > LONG_SECONDS:
            self._begin(latencies, age)
            return
        last = self.points[-1]
        try:
            point = _Point(
                self._at,
                _sums(last.first_token, self.newest.first_token, latencies.first_token),
                _sums(last.whole, self.newest.whole, latencies.whole),
            )
        except (
            ValueError
        ):  # a release with other buckets: its counts cannot be added to the earlier
            self._begin(latencies, age)
            return
        self.newest = latencies
        # The newest point is replaced until it is far enough from the one before.
        if len(self.points) > 1 and last.at - self.points[-2].at < SPACING_SECONDS:
            self.points[-1] = point
        else:
            self.points.append(point)
        # One point at or before the window's start stays, to cover the whole window.
        while len(self.points) > 2 and self.points[1].at <= point.at - LONG_SECONDS:
            del self.points[0]

    def _begin(self, latencies: GatewayLatencies, age: float) -> None:
        """Begin with a sample; the counts of a gateway younger than the window are within it."""
        self.newest = latencies
        if 0 < age <= LONG_SECONDS:
            first = _Point(self._at - age)
            self.points = [first, _Point(self._at, latencies.first_token, latencies.whole)]
        else:
            self.points = [_Point(self._at)]

    def start_of(self, span: float) -> _Point:
        """Return the point from which the last `span` seconds are counted."""
        edge = self._at - span
        before = self.points[0]
        for point in self.points:
            if point.at > edge + 1e-6:
                # After a gap without samples the span begins late rather than long ago.
                return point if edge - before.at > GAP_SECONDS else before
            before = point
        return before


NOT_REPORTED = Unavailable("NotReported", "No gateway has reported latencies of this resource yet.")


def latencies_of(by_gateway: Mapping[str, LatencySums | None]) -> Latencies | Unavailable:
    """Return the recent latencies of the expected gateways (None: stale or never reported).

    A gateway that does not answer makes the result `Unavailable`, because its requests may be the slow
    ones.
    """
    reporting: list[LatencySums] = []
    for name, sums in sorted(by_gateway.items()):
        if sums is None or not sums.reported:
            return Unavailable("StaleLatency", f"Gateway {name} reports no latencies.")
        reporting.append(sums)
    try:
        return Latencies(
            _recent(reporting, lambda point: point.first_token),
            _recent(reporting, lambda point: point.whole),
            {
                name: max(one.newest.oldest_wait.get(name, 0.0) for one in reporting if one.newest)
                for name in ClassName
            },
        )
    except ValueError as error:
        return Unavailable("InvalidLatency", f"The gateways run different releases: {error}.")


def _recent(
    reporting: Sequence[LatencySums], part: Callable[[_Point], Histograms]
) -> dict[ClassName, Recent]:
    """Merge the gateways' counts, over the short span where it has enough requests."""
    short, long = (
        _merged(
            _differences(part(each.start_of(span)), part(each.points[-1])) for each in reporting
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


def _sums(sums: Histograms, before: Histograms, after: Histograms) -> Histograms:
    """Add the increase from `before` to `after`; a histogram that fell counts from zero."""
    increases: dict[ClassName, LatencyHistogram] = {}
    for name, histogram in after.items():
        increase = histogram.since(before[name]) if name in before else histogram
        increases[name] = histogram if increase is None else increase
    return _merged([sums, increases])


def _differences(before: Histograms, after: Histograms) -> Histograms:
    """Return the increase of sums, which never fall."""
    found: dict[ClassName, LatencyHistogram] = {}
    for name, sums in after.items():
        increase = sums.since(before[name]) if name in before else sums
        if increase is not None:
            found[name] = increase
    return found


def _merged(parts: Iterable[Histograms]) -> dict[ClassName, LatencyHistogram]:
    found: dict[ClassName, LatencyHistogram] = {}
    for part in parts:
        for name, durations in part.items():
            found[name] = durations if name not in found else found[name].plus(durations)
    return found
