"""``GET /signals``: the load of each route, polled by the operator every 2 s.

The contract is `r1_common.contracts.signals`. The reader takes differences over ``uptimeSeconds``,
because the wall clock of ``at`` can be set between two reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson

from r1_common.contracts.priority_classes import CLASS_NAMES, CLASSES
from r1_common.contracts.signals import (
    HistogramCounts,
    RouteLatencies,
    RouteSignals,
    SignalsHeader,
    header_document,
    route_document,
)
from r1_gateway.gateway import Gateway
from r1_gateway.routes.route import Route
from r1_gateway.routes.route_stats import SECONDS_BUCKETS, Histogram

SLICE_SECONDS = 0.002


def build_signals(gateway: Gateway, name: str) -> dict[str, object]:
    """The document, as JSON-able values."""
    now = gateway.now()
    routes = {key: _route_entry(route, now) for key, route in gateway.routes.items()}
    return {**header_document(_header(gateway, name)), "routes": routes}


async def render_signals(gateway: Gateway, name: str) -> bytes:
    """The document as JSON, built in slices; the event loop serves requests between them."""
    header = orjson.dumps(header_document(_header(gateway, name)))
    routes: list[bytes] = []
    began = time.monotonic()
    for key, route in list(gateway.routes.items()):
        entry = _route_entry(route, gateway.now())
        routes.append(orjson.dumps(key) + b":" + orjson.dumps(entry))
        if time.monotonic() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
    return b'%s,"routes":{%s}}' % (header[:-1], b",".join(routes))


def _header(gateway: Gateway, name: str) -> SignalsHeader:
    return SignalsHeader(
        gateway=name,
        started_at=gateway.started_at,
        at=time.time(),
        uptime_seconds=gateway.uptime,
        seconds_buckets=SECONDS_BUCKETS,
    )


def _route_entry(route: Route, now: float) -> dict[str, object]:
    return route_document(route_signals(route, now), route_latencies(route))


def route_signals(route: Route, now: float) -> RouteSignals:
    """Counters and gauges of one route at ``now`` (monotonic seconds)."""
    stats, admission = route.stats, route.admission
    return RouteSignals(
        offered_requests=_by_class(stats.offered_requests),
        offered_tokens=_by_class(stats.offered_tokens),
        completed=_by_class(stats.completed),
        failed=_by_class(stats.failed),
        rejected=_by_class(stats.rejected),
        cancelled=_by_class(stats.cancelled),
        queued=_by_class([admission.queued(klass) for klass in CLASSES]),
        oldest_wait_seconds=_by_class([admission.oldest_wait(klass, now) for klass in CLASSES]),
        in_flight=_by_class(admission.in_flight),
        in_flight_by_endpoint={each.address: each.in_flight for each in admission.pool},
        queued_without_endpoints=admission.waiting if admission.pool.ready == 0 else 0,
        seat_occupancy_seconds=admission.occupancy_seconds,
        seats=admission.pool.available_seats,
        ready_endpoints=admission.pool.available,
        predicted_wait_seconds=_by_class([admission.predicted_wait(k, now) for k in CLASSES]),
    )


def route_latencies(route: Route) -> RouteLatencies:
    """Histograms of one route."""
    return RouteLatencies(
        time_to_first_token=_histograms(route.stats.time_to_first_token),
        latency=_histograms(route.stats.latency),
    )


def _by_class(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(CLASS_NAMES, values, strict=True))


def _histograms(histograms: Sequence[Histogram]) -> dict[str, HistogramCounts]:
    """Counts by bucket and the sum of each class; classes without samples are left out."""
    return {
        name: HistogramCounts(tuple(histogram.counts), histogram.total)
        for name, histogram in zip(CLASS_NAMES, histograms, strict=True)
        if histogram.total > 0
    }
