"""``GET /metrics``: the same numbers as the signals, for Prometheus.

A collector reads the routes' plain counters when it is scraped; requests pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from r1_gateway.classes import CLASS_NAMES, CLASSES
from r1_gateway.door import Door
from r1_gateway.route import Route
from r1_gateway.tally import SECONDS_BUCKETS, Histogram

_ROUTE = ("inference_namespace", "inference")
_CLASS = (*_ROUTE, "class")


class GatewayCollector(Collector):
    """Metric families built from the door's state at scrape time."""

    def __init__(self, door: Door, discovery_errors: Callable[[], int]) -> None:
        self._door = door
        self._discovery_errors = discovery_errors

    def collect(self) -> Iterable[Metric]:
        """All families."""
        routes = list(self._door.routes.values())
        yield from _class_counters(routes)
        yield from _labelled_counters(routes)
        yield from _gauges(routes, self._door.now())
        yield _histogram(
            "r1_gateway_queue_wait_seconds",
            "Seconds from arrival to a seat.",
            routes,
            lambda route: route.tally.queue_wait,
        )
        yield _histogram(
            "r1_gateway_time_to_first_token_seconds",
            "Seconds from arrival to the first event of a stream with content or a tool call.",
            routes,
            lambda route: route.tally.time_to_first_token,
        )
        yield _histogram(
            "r1_gateway_time_per_output_token_seconds",
            "Seconds per token of a stream after its first one, by the engine's token count.",
            routes,
            lambda route: route.tally.time_per_output_token,
        )
        yield _histogram(
            "r1_gateway_request_duration_seconds",
            "Seconds from arrival to the last byte of a good answer.",
            routes,
            lambda route: route.tally.latency,
        )
        refused = CounterMetricFamily(
            "r1_gateway_refused",
            "Requests that reached no route: bad, unauthorized, unknown model.",
            labels=("code", "reason"),
        )
        for (status, code), count in self._door.refused.items():
            refused.add_metric((str(status), code), count)
        yield refused
        yield GaugeMetricFamily(
            "r1_gateway_client_connections", "Open connections.", value=len(self._door.clients)
        )
        yield CounterMetricFamily(
            "r1_gateway_upstream_connections_opened",
            "Connections opened to pods.",
            value=self._door.connections.opened,
        )
        yield CounterMetricFamily(
            "r1_gateway_invalid_configurations",
            "Routes, keys or files that could not be used; the old ones stayed.",
            value=self._discovery_errors(),
        )


def build_registry(door: Door, discovery_errors: Callable[[], int]) -> CollectorRegistry:
    """A registry of the door's metrics and the process's own."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(door, discovery_errors))
    ProcessCollector(registry=registry)
    return registry


def _labels(route: Route) -> tuple[str, str]:
    return (route.spec.namespace, route.spec.name)


def _class_counters(routes: list[Route]) -> Iterator[Metric]:
    readers: tuple[tuple[str, str, Callable[[Route], list[int]]], ...] = (
        ("requests_offered", "Requests at the door.", lambda r: r.tally.offered_requests),
        ("tokens_offered", "Tokens at the door, estimated.", lambda r: r.tally.offered_tokens),
        (
            "tokens_generated",
            "Tokens of complete answers, by the engine's usage where it sends one.",
            lambda r: r.tally.generated_tokens,
        ),
        ("slo_missed", "Streams later than promised.", lambda r: r.tally.slo_missed),
    )
    for name, text, read in readers:
        family = CounterMetricFamily(f"r1_gateway_{name}", text, labels=_CLASS)
        for route in routes:
            for name_of_class, value in zip(CLASS_NAMES, read(route), strict=True):
                family.add_metric((*_labels(route), name_of_class), value)
        yield family


def _labelled_counters(routes: list[Route]) -> Iterator[Metric]:
    answered = CounterMetricFamily(
        "r1_gateway_requests", "Answers by status; 499 = the client left.", labels=(*_CLASS, "code")
    )
    rejected = CounterMetricFamily(
        "r1_gateway_rejected", "Requests refused or timed out in queue.", labels=(*_CLASS, "reason")
    )
    retries = CounterMetricFamily(
        "r1_gateway_retries", "Requests tried again, by cause.", labels=(*_ROUTE, "reason")
    )
    ejections = CounterMetricFamily(
        "r1_gateway_ejections", "Ejections of pods that fail more than the others.", labels=_ROUTE
    )
    for route in routes:
        labels = _labels(route)
        ejections.add_metric(labels, route.tally.ejections)
        for (klass, code), count in route.tally.by_code.items():
            answered.add_metric((*labels, CLASS_NAMES[klass], str(code)), count)
        for (klass, reason), count in route.tally.rejected_by_reason.items():
            rejected.add_metric((*labels, CLASS_NAMES[klass], reason), count)
        for reason, count in route.tally.retries.items():
            retries.add_metric((*labels, reason), count)
    yield from (answered, rejected, retries, ejections)


def _gauges(routes: list[Route], now: float) -> Iterator[Metric]:
    length = GaugeMetricFamily("r1_gateway_queue_length", "Requests waiting.", labels=_CLASS)
    oldest = GaugeMetricFamily(
        "r1_gateway_oldest_wait_seconds", "Wait of the queue's head.", labels=_CLASS
    )
    running = GaugeMetricFamily("r1_gateway_in_flight", "Requests on pods.", labels=_CLASS)
    seats = GaugeMetricFamily("r1_gateway_seats", "Seats on available pods.", labels=_ROUTE)
    ready = GaugeMetricFamily(
        "r1_gateway_ready_endpoints",
        "Pods that are ready and whose circuit breaker is closed.",
        labels=_ROUTE,
    )
    ejected = GaugeMetricFamily(
        "r1_gateway_ejected_endpoints",
        "Ready pods that get no requests because they fail more than the others.",
        labels=_ROUTE,
    )
    kept = GaugeMetricFamily(
        "r1_gateway_seats_held_back",
        "Seats that a request of the class leaves free for those above it.",
        labels=_CLASS,
    )
    advised = GaugeMetricFamily(
        "r1_gateway_seats_advised",
        "Of these, what the operator advises; no more than are held back.",
        labels=_CLASS,
    )
    for route in routes:
        labels, admission = _labels(route), route.admission
        for klass in CLASSES:
            with_class = (*labels, klass.name)
            length.add_metric(with_class, admission.queued(klass))
            oldest.add_metric(with_class, admission.oldest_wait(klass, now))
            running.add_metric(with_class, admission.in_flight[klass])
            if klass:  # nobody is above the first
                held, of_advice = admission.held_back(klass, now)
                kept.add_metric(with_class, held)
                advised.add_metric(with_class, of_advice)
        seats.add_metric(labels, admission.pool.available_seats)
        ready.add_metric(labels, admission.pool.available)
        ejected.add_metric(labels, admission.pool.ejected)
    yield from (length, oldest, running, seats, ready, ejected, kept, advised)


def _histogram(
    name: str, text: str, routes: list[Route], read: Callable[[Route], list[Histogram]]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_CLASS)
    for route in routes:
        for name_of_class, histogram in zip(CLASS_NAMES, read(route), strict=True):
            buckets, seen = [], 0
            for bound, count in zip((*SECONDS_BUCKETS, None), histogram.counts, strict=True):
                seen += count
                buckets.append(("+Inf" if bound is None else str(bound), float(seen)))
            if seen:
                family.add_metric((*_labels(route), name_of_class), buckets, histogram.total)
    return family
