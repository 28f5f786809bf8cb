"""``GET /signals``: the load of each route, polled by the operator every 2 s.

ARCHITECTURE.md has the contract.  Counters start with the process.  The reader takes differences over
``uptimeSeconds``, because the wall clock of ``at`` can be set between two reads.  At any instant
offered = completed + failed + rejected + cancelled + queued + in flight.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson

from r1_common.contracts.priority_classes import CLASS_NAMES, CLASSES
from r1_gateway.gateway import Gateway
from r1_gateway.routes.route import Route
from r1_gateway.routes.route_stats import SECONDS_BUCKETS, Histogram

SLICE_SECONDS = 0.002


def build_signals(gateway: Gateway, name: str) -> dict[str, object]:
    """The document, as JSON-able values."""
    routes = {key: _route_signals(route, gateway.now()) for key, route in gateway.routes.items()}
    return {**_head(gateway, name), "routes": routes}


async def render_signals(gateway: Gateway, name: str) -> bytes:
    """The document as JSON, built in slices; the event loop serves requests between them."""
    head = _head(gateway, name)
    routes: list[bytes] = []
    began = time.monotonic()
    for key, route in list(gateway.routes.items()):
        entry = _route_signals(route, gateway.now())
        routes.append(orjson.dumps(key) + b":" + orjson.dumps(entry))
        if time.monotonic() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
    return b'%s,"routes":{%s}}' % (orjson.dumps(head)[:-1], b",".join(routes))


def _head(gateway: Gateway, name: str) -> dict[str, object]:
    return {
        "gateway": name,
        "startedAt": gateway.started_at,
        "at": time.time(),
        "uptimeSeconds": gateway.uptime,
        "secondsBuckets": SECONDS_BUCKETS,
    }


def _by_class(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(CLASS_NAMES, values, strict=True))


def _route_signals(route: Route, now: float) -> dict[str, object]:
    stats, admission = route.stats, route.admission
    return {
        "offeredRequests": _by_class(stats.offered_requests),
        "offeredTokens": _by_class(stats.offered_tokens),
        "completed": _by_class(stats.completed),
        "failed": _by_class(stats.failed),
        "rejected": _by_class(stats.rejected),
        "cancelled": _by_class(stats.cancelled),
        "queued": _by_class([admission.queued(klass) for klass in CLASSES]),
        "oldestWaitSeconds": _by_class([admission.oldest_wait(klass, now) for klass in CLASSES]),
        "inFlight": _by_class(admission.in_flight),
        "inFlightByEndpoint": {each.address: each.in_flight for each in admission.pool},
        "queuedWithoutEndpoints": admission.waiting if admission.pool.ready == 0 else 0,
        "seatOccupancySeconds": admission.occupancy_seconds,
        "seats": admission.pool.available_seats,
        "readyEndpoints": admission.pool.available,
        "timeToFirstToken": _latencies(stats.time_to_first_token),
        "latency": _latencies(stats.latency),
    }


def _latencies(histograms: Sequence[Histogram]) -> dict[str, object]:
    """Counts by bucket and the sum of each class; classes without samples are left out."""
    return {
        name: {"counts": histogram.counts, "sumSeconds": histogram.total}
        for name, histogram in zip(CLASS_NAMES, histograms, strict=True)
        if histogram.total > 0
    }
