"""``GET /metrics``: the numbers of the signals and more, for Prometheus.

A scrape renders the routes' plain counters, so requests pay nothing.  The page is built in slices, and
the event loop serves requests between them: hundreds of routes make a hundred thousand lines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from r1_common.contracts.priority_classes import CLASS_NAMES, CLASSES
from r1_gateway.gateway import Gateway
from r1_gateway.routes.route import Route
from r1_gateway.routes.route_stats import SECONDS_BUCKETS, Histogram
from r1_gateway.telemetry.metric_family import Family, Rows
from r1_gateway.telemetry.process_metrics import ProcessStats, process_rows
from r1_gateway.telemetry.tenant_metrics import tenant_rows

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_SECONDS = 0.002
_ROUTE = ("inference_namespace", "inference")
_CLASS = (*_ROUTE, "class")
_BOUNDS = (*map(str, SECONDS_BUCKETS), "+Inf")


class MetricsPage:
    """The metrics page; concurrent scrapes share one rendering."""

    def __init__(self, gateway: Gateway, stats: ProcessStats) -> None:
        self._gateway = gateway
        self._process_stats = stats
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._building: asyncio.Task[bytes] | None = None

    async def render(self) -> bytes:
        """The page in the text format 0.0.4."""
        if self._building is None:
            self._building = asyncio.get_running_loop().create_task(self._build())
            self._building.add_done_callback(self._built)
        return await asyncio.shield(self._building)

    def _built(self, task: asyncio.Task[bytes]) -> None:
        self._building = None

    async def _build(self) -> bytes:
        process = await asyncio.to_thread(generate_latest, self._registry)  # reads /proc
        parts: list[str] = []
        began = time.monotonic()
        now = self._gateway.now()
        routes = [(route, _route_labels(route)) for route in self._gateway.routes.values()]
        for family in FAMILIES:
            parts.append(family.head())
            sample, rows = family.sample, family.rows
            for route, labels in routes:
                parts.extend(rows(route, sample, labels, now))
                if time.monotonic() - began > SLICE_SECONDS:
                    await asyncio.sleep(0)
                    began = time.monotonic()
        parts.extend(tenant_rows(self._gateway.usage))
        parts.extend(process_rows(self._gateway, self._process_stats))
        text: list[bytes] = []
        for start in range(0, len(parts), 4096):
            text.append("".join(parts[start : start + 4096]).encode("utf-8", "replace"))
            await asyncio.sleep(0)
        return b"".join((*text, process))


def _route_labels(route: Route) -> str:
    return f'inference="{route.spec.name}",inference_namespace="{route.spec.namespace}"'


def _by_class(read: Callable[[Route], Iterable[float]]) -> Callable[[Route, str, str, float], Rows]:
    def rows(route: Route, sample: str, labels: str, now: float) -> Rows:
        for name, value in zip(CLASS_NAMES, read(route), strict=True):
            yield f'{sample}{{class="{name}",{labels}}} {float(value)!r}\n'

    return rows


def _responses(route: Route, sample: str, labels: str, now: float) -> Rows:
    for (klass, code), count in route.stats.by_code.items():
        name = CLASS_NAMES[klass]
        yield f'{sample}{{class="{name}",code="{code}",{labels}}} {float(count)!r}\n'


def _rejections(route: Route, sample: str, labels: str, now: float) -> Rows:
    for (klass, reason), count in route.stats.rejected_by_reason.items():
        name = CLASS_NAMES[klass]
        yield f'{sample}{{class="{name}",{labels},reason="{reason}"}} {float(count)!r}\n'


def _retries(route: Route, sample: str, labels: str, now: float) -> Rows:
    for reason, count in route.stats.retries.items():
        yield f'{sample}{{{labels},reason="{reason}"}} {float(count)!r}\n'


def _oldest_waits(route: Route, sample: str, labels: str, now: float) -> Rows:
    for klass in CLASSES:
        wait = route.admission.oldest_wait(klass, now)
        yield f'{sample}{{class="{klass.name}",{labels}}} {float(wait)!r}\n'


def _reserved(index: int) -> Callable[[Route, str, str, float], Rows]:
    def rows(route: Route, sample: str, labels: str, now: float) -> Rows:
        for klass in CLASSES[1:]:  # no class is above the first
            seats = route.admission.reserved_against(klass, now)[index]
            yield f'{sample}{{class="{klass.name}",{labels}}} {float(seats)!r}\n'

    return rows


def _value(read: Callable[[Route], float]) -> Callable[[Route, str, str, float], Rows]:
    def rows(route: Route, sample: str, labels: str, now: float) -> Rows:
        yield f"{sample}{{{labels}}} {float(read(route))!r}\n"

    return rows


def _histogram(
    read: Callable[[Route], list[Histogram]],
) -> Callable[[Route, str, str, float], Rows]:
    def rows(route: Route, sample: str, labels: str, now: float) -> Rows:
        for name, histogram in zip(CLASS_NAMES, read(route), strict=True):
            if not any(histogram.counts):
                continue
            of_class = f'class="{name}",{labels}'
            total = 0
            for bound, count in zip(_BOUNDS, histogram.counts, strict=True):
                total += count
                yield f'{sample}_bucket{{{of_class},le="{bound}"}} {total}.0\n'
            yield f"{sample}_count{{{of_class}}} {total}.0\n"
            yield f"{sample}_sum{{{of_class}}} {float(histogram.total)!r}\n"

    return rows


FAMILIES = (
    Family("r1_gateway_requests_offered", "counter", "Requests that reached the route, before admission.", _CLASS,
           _by_class(lambda r: r.stats.offered_requests)),
    Family("r1_gateway_tokens_offered", "counter", "Estimated tokens of these requests, prompt and output.", _CLASS,
           _by_class(lambda r: r.stats.offered_tokens)),
    Family("r1_gateway_tokens_generated", "counter",
           "Tokens of complete responses, by the engine's usage where it sends one.", _CLASS,
           _by_class(lambda r: r.stats.generated_tokens)),
    Family("r1_gateway_slo_missed", "counter", "Requests that missed the SLO target of their class.", _CLASS,
           _by_class(lambda r: r.stats.slo_missed)),
    Family("r1_gateway_requests", "counter", "Responses by status code; 499 means that the client closed the connection.",
           (*_CLASS, "code"), _responses),
    Family("r1_gateway_rejected", "counter", "Requests rejected on arrival or expired in the queue, by reason.",
           (*_CLASS, "reason"), _rejections),
    Family("r1_gateway_retries", "counter", "Requests retried, by reason.",
           (*_ROUTE, "reason"), _retries),
    Family("r1_gateway_ejections", "counter", "Ejections of pods that fail more requests than the other pods.",
           _ROUTE, _value(lambda r: r.stats.ejections)),
    Family("r1_gateway_queue_length", "gauge", "Queued requests.", _CLASS,
           _by_class(lambda r: [r.admission.queued(klass) for klass in CLASSES])),
    Family("r1_gateway_oldest_wait_seconds", "gauge", "Seconds that the head of the queue has waited.", _CLASS,
           _oldest_waits),
    Family("r1_gateway_in_flight", "gauge", "Requests in flight on pods.", _CLASS,
           _by_class(lambda r: r.admission.in_flight)),
    Family("r1_gateway_seats", "gauge", "Seats on available pods, in use or free.", _ROUTE,
           _value(lambda r: r.admission.pool.available_seats)),
    Family("r1_gateway_ready_endpoints", "gauge",
           "Pods that are ready and whose circuit breaker is closed.", _ROUTE,
           _value(lambda r: r.admission.pool.available)),
    Family("r1_gateway_ejected_endpoints", "gauge",
           "Ready pods that are ejected because they fail more requests than the other pods.", _ROUTE,
           _value(lambda r: r.admission.pool.ejected)),
    Family("r1_gateway_seats_reserved", "gauge",
           "Seats reserved against the class for more urgent classes.", _CLASS,
           _reserved(0)),
    Family("r1_gateway_seats_reserved_by_operator", "gauge",
           "Part of r1_gateway_seats_reserved that the operator reserved.", _CLASS,
           _reserved(1)),
    Family("r1_gateway_queue_wait_seconds", "histogram", "Seconds from arrival to a seat.", _CLASS,
           _histogram(lambda r: r.stats.queue_wait)),
    Family("r1_gateway_time_to_first_token_seconds", "histogram",
           "Seconds from arrival to the first event with content or a tool call.", _CLASS,
           _histogram(lambda r: r.stats.time_to_first_token)),
    Family("r1_gateway_time_per_output_token_seconds", "histogram",
           "Seconds per token after the first, by the engine's token count.", _CLASS,
           _histogram(lambda r: r.stats.time_per_output_token)),
    Family("r1_gateway_request_duration_seconds", "histogram",
           "Seconds from arrival to the last byte of a response below 400.", _CLASS,
           _histogram(lambda r: r.stats.latency)),
)  # fmt: skip
