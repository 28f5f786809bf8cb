"""``GET /signals``: the load of each route, written by a gateway and read by the operator.

Counters start with the gateway's process; at any instant offered = completed + failed + rejected +
cancelled + queued + in flight. ARCHITECTURE.md describes the fields. One invalid route leaves the
others valid. The histograms are parsed apart, because few policies read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_common.contracts.json_object import JsonObject
from r1_common.contracts.unavailable import Unavailable

ByClass = Mapping[str, float]
"""A figure of each priority class, by its name."""


class InvalidSignals(ValueError):
    """Signals that do not parse; the message names the field and what it must be."""


@dataclass(frozen=True, slots=True)
class SignalsHeader:
    """The gateway and its clocks (unix seconds).

    ``uptime_seconds`` is its monotonic clock; None from a release without it. ``seconds_buckets``
    are the upper bounds (s) of all histograms.
    """

    gateway: str
    started_at: float
    at: float
    uptime_seconds: float | None
    seconds_buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RouteSignals:
    """Counters and gauges of one route.

    ``in_flight_by_endpoint``: seats taken, by ``address:port``; None from a release without it.
    ``seat_occupancy_seconds``: mean time of a request in its seat, None before the first end.
    """

    offered_requests: ByClass
    offered_tokens: ByClass
    completed: ByClass
    failed: ByClass
    rejected: ByClass
    cancelled: ByClass
    queued: ByClass
    oldest_wait_seconds: ByClass
    in_flight: ByClass
    in_flight_by_endpoint: Mapping[str, float] | None
    queued_without_endpoints: float
    seat_occupancy_seconds: float | None
    seats: float
    ready_endpoints: float
    predicted_wait_seconds: ByClass | None = None
    """Expected seconds in the queue of a request that arrives now; None from a release without it."""


@dataclass(frozen=True, slots=True)
class HistogramCounts:
    """Requests per bucket since the start, the last without an upper bound, and the sum (s)."""

    counts: tuple[float, ...]
    sum_seconds: float


@dataclass(frozen=True, slots=True)
class RouteLatencies:
    """Histograms by class; a class without samples is absent."""

    time_to_first_token: Mapping[str, HistogramCounts]
    latency: Mapping[str, HistogramCounts]


@dataclass(frozen=True, slots=True)
class Signals:
    """A whole document, without the histograms; routes by ``namespace/name``."""

    header: SignalsHeader
    routes: Mapping[str, RouteSignals | Unavailable]


def parse_signals(document: object) -> Signals:
    """Read the response; an invalid route is `Unavailable`.

    Raises:
        InvalidSignals: the header or ``routes`` does not parse.
    """
    root = JsonObject.root(document, "the response", InvalidSignals)
    routes: dict[str, RouteSignals | Unavailable] = {}
    for name, entry in root.child("routes").fields.items():
        try:
            routes[name] = parse_route_signals(entry)
        except InvalidSignals as error:
            routes[name] = Unavailable("InvalidSignals", f"Signals do not parse: {error}.")
    return Signals(parse_header(document), routes)


def parse_header(document: object) -> SignalsHeader:
    """Read the fields beside ``routes``; raises InvalidSignals."""
    root = JsonObject.root(document, "the response", InvalidSignals)
    return SignalsHeader(
        gateway=root.text("gateway"),
        started_at=root.number("startedAt"),
        at=root.number("at"),
        uptime_seconds=root.optional_number("uptimeSeconds", 0),
        seconds_buckets=root.numbers("secondsBuckets", 0) if root.has("secondsBuckets") else (),
    )


def parse_route_signals(entry: object) -> RouteSignals:
    """Read one value of ``routes``, without its histograms; raises InvalidSignals."""
    route = JsonObject.root(entry, "the route", InvalidSignals)
    return RouteSignals(
        offered_requests=route.numbers_by_key("offeredRequests", 0),
        offered_tokens=route.numbers_by_key("offeredTokens", 0),
        completed=route.numbers_by_key("completed", 0),
        failed=route.numbers_by_key("failed", 0),
        rejected=route.numbers_by_key("rejected", 0),
        cancelled=route.numbers_by_key("cancelled", 0),
        queued=route.numbers_by_key("queued", 0),
        oldest_wait_seconds=route.numbers_by_key("oldestWaitSeconds", 0),
        in_flight=route.numbers_by_key("inFlight", 0),
        in_flight_by_endpoint=route.numbers_by_key("inFlightByEndpoint", 0)
        if "inFlightByEndpoint" in route.fields
        else None,
        queued_without_endpoints=route.number("queuedWithoutEndpoints", 0),
        seat_occupancy_seconds=route.optional_number("seatOccupancySeconds", 0),
        seats=route.number("seats", 0),
        ready_endpoints=route.number("readyEndpoints", 0),
        predicted_wait_seconds=route.numbers_by_key("predictedWaitSeconds", 0)
        if route.has("predictedWaitSeconds")
        else None,
    )


def parse_oldest_waits(entry: object) -> ByClass:
    """Read ``oldestWaitSeconds`` of one value of ``routes``; raises InvalidSignals."""
    route = JsonObject.root(entry, "the route", InvalidSignals)
    return route.numbers_by_key("oldestWaitSeconds", 0)


def parse_latencies(entry: object, buckets: tuple[float, ...]) -> RouteLatencies:
    """Read the histograms of one value of ``routes`` between the bounds ``buckets`` (s).

    Raises:
        InvalidSignals: they are absent (an older release) or do not parse.
    """
    route = JsonObject.root(entry, "the route", InvalidSignals)

    def histogram(fields: JsonObject) -> HistogramCounts:
        counts = fields.numbers("counts", 0)
        if len(counts) != len(buckets) + 1:
            raise fields.wrong("counts", f"has {len(counts)} values for {len(buckets)} bounds")
        return HistogramCounts(counts, fields.number("sumSeconds", 0))

    return RouteLatencies(
        time_to_first_token=route.by_key("timeToFirstToken", histogram),
        latency=route.by_key("latency", histogram),
    )


def header_document(header: SignalsHeader) -> dict[str, Any]:
    """The fields beside ``routes``."""
    document: dict[str, Any] = {
        "gateway": header.gateway,
        "startedAt": header.started_at,
        "at": header.at,
        "secondsBuckets": header.seconds_buckets,
    }
    if header.uptime_seconds is not None:
        document["uptimeSeconds"] = header.uptime_seconds
    return document


def route_document(signals: RouteSignals, latencies: RouteLatencies) -> dict[str, Any]:
    """One value of ``routes``."""
    document: dict[str, Any] = {
        "offeredRequests": signals.offered_requests,
        "offeredTokens": signals.offered_tokens,
        "completed": signals.completed,
        "failed": signals.failed,
        "rejected": signals.rejected,
        "cancelled": signals.cancelled,
        "queued": signals.queued,
        "oldestWaitSeconds": signals.oldest_wait_seconds,
        "inFlight": signals.in_flight,
        "queuedWithoutEndpoints": signals.queued_without_endpoints,
        "seatOccupancySeconds": signals.seat_occupancy_seconds,
        "seats": signals.seats,
        "readyEndpoints": signals.ready_endpoints,
        "timeToFirstToken": _histograms(latencies.time_to_first_token),
        "latency": _histograms(latencies.latency),
    }
    if signals.predicted_wait_seconds is not None:
        document["predictedWaitSeconds"] = signals.predicted_wait_seconds
    if signals.in_flight_by_endpoint is not None:
        document["inFlightByEndpoint"] = signals.in_flight_by_endpoint
    return document


def _histograms(by_class: Mapping[str, HistogramCounts]) -> dict[str, Any]:
    return {
        name: {"counts": histogram.counts, "sumSeconds": histogram.sum_seconds}
        for name, histogram in by_class.items()
    }
