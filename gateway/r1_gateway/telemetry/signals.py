"""``GET /signals``: what the operator reads every second or two (ARCHITECTURE.md has the contract).

Counters since the gateway's start; the reader takes differences, over ``uptimeSeconds``: the wall
clock of ``at`` can be set between two answers.  ``cancelled`` (the client went
away) is ours beyond the contract: offered = completed + failed + rejected + cancelled + queued +
in flight, at any instant.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson

from r1_gateway.admission.classes import CLASS_NAMES, CLASSES
from r1_gateway.gateway import Gateway
from r1_gateway.routes.route import Route
from r1_gateway.routes.route_stats import SECONDS_BUCKETS, Histogram

SLICE_SECONDS = 0.002


def build_signals(door: Gateway, gateway: str) -> dict[str, object]:
    """The document, as JSON-able values."""
    routes = {key: _route_signals(route, door.now()) for key, route in door.routes.items()}
    return {**_head(door, gateway), "routes": routes}


async def render_signals(door: Gateway, gateway: str) -> bytes:
    """The document as JSON, built in slices: between them the event loop serves requests."""
    head = _head(door, gateway)
    routes: list[bytes] = []
    began = time.monotonic()
    for key, route in list(door.routes.items()):
        entry = _route_signals(route, door.now())
        routes.append(orjson.dumps(key) + b":" + orjson.dumps(entry))
        if time.monotonic() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()
    return b'%s,"routes":{%s}}' % (orjson.dumps(head)[:-1], b",".join(routes))


def _head(door: Gateway, gateway: str) -> dict[str, object]:
    return {
        "gateway": gateway,
        "startedAt": door.started_at,
        "at": time.time(),
        "uptimeSeconds": door.uptime,
        "secondsBuckets": SECONDS_BUCKETS,
    }


def _by_class(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(CLASS_NAMES, values, strict=True))


def _route_signals(route: Route, now: float) -> dict[str, object]:
    tally, admission = route.tally, route.admission
    return {
        "offeredRequests": _by_class(tally.offered_requests),
        "offeredTokens": _by_class(tally.offered_tokens),
        "completed": _by_class(tally.completed),
        "failed": _by_class(tally.failed),
        "rejected": _by_class(tally.rejected),
        "cancelled": _by_class(tally.cancelled),
        "queued": _by_class([admission.queued(klass) for klass in CLASSES]),
        "oldestWaitSeconds": _by_class([admission.oldest_wait(klass, now) for klass in CLASSES]),
        "inFlight": _by_class(admission.in_flight),
        "inFlightByEndpoint": {each.address: each.in_flight for each in admission.pool},
        "held": admission.waiting if admission.pool.ready == 0 else 0,
        "heldSeconds": admission.held_seconds,
        "seats": admission.pool.available_seats,
        "readyEndpoints": admission.pool.available,
        "timeToFirstToken": _durations(tally.time_to_first_token),
        "latency": _durations(tally.latency),
    }


def _durations(histograms: Sequence[Histogram]) -> dict[str, object]:
    """Counts by bucket and the sum of each class; one that saw nothing is left out."""
    return {
        name: {"counts": seen.counts, "sumSeconds": seen.total}
        for name, seen in zip(CLASS_NAMES, histograms, strict=True)
        if seen.total > 0
    }
