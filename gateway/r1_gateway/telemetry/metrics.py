"""``GET /metrics``: the same numbers as the signals, for Prometheus.

The text is built from the routes' plain counters when it is asked for; requests pay nothing for it.
It is built in slices, and the event loop serves requests between them: with hundreds of routes the
text has a hundred thousand lines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from r1_gateway.admission.classes import CLASS_NAMES, CLASSES
from r1_gateway.gateway import Gateway
from r1_gateway.routes.route import Route
from r1_gateway.routes.route_stats import SECONDS_BUCKETS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SLICE_SECONDS = 0.002
_ROUTE = ("inference_namespace", "inference")
_CLASS = (*_ROUTE, "class")
_BOUNDS = (*map(str, SECONDS_BUCKETS), "+Inf")

Rows = Iterator[str]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name without suffix, type, help, labels, and the sample lines of one route."""

    name: str
    type: str
    text: str
    labels: tuple[str, ...]
    rows: Callable[[Route, str, str, float], Rows]
    """``rows(route, sample name, route labels, now)``"""

    @property
    def sample(self) -> str:
        """Name of the samples, but for a histogram's suffixes."""
        return self.name + "_total" if self.type == "counter" else self.name

    def head(self) -> str:
        """The lines that announce the family."""
        return f"# HELP {self.sample} {self.text}\n# TYPE {self.sample} {self.type}\n"


@dataclass(slots=True)
class ProcessFigures:
    """What belongs to the process and to no route; read when the metrics are asked for."""

    invalid_configurations: Callable[[], int] = lambda: 0
    refused_configmaps: Callable[[], Iterable[str]] = lambda: ()
    task_restarts: Callable[[], Mapping[str, int]] = dict
    dropped_lines: Callable[[], Mapping[str, int]] = dict


class MetricsPage:
    """The page; scrapes that come while it is being built get the same one."""

    def __init__(self, door: Gateway, figures: ProcessFigures) -> None:
        self._door = door
        self._figures = figures
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
        process = await asyncio.to_thread(generate_latest, self._registry)  # it reads /proc
        parts: list[str] = []
        began = time.monotonic()
        now = self._door.now()
        routes = [(route, _route_labels(route)) for route in self._door.routes.values()]
        for family in FAMILIES:
            parts.append(family.head())
            sample, rows = family.sample, family.rows
            for route, labels in routes:
                parts.extend(rows(route, sample, labels, now))
                if time.monotonic() - began > SLICE_SECONDS:
                    await asyncio.sleep(0)
                    began = time.monotonic()
        parts.extend(process_rows(self._door, self._figures))
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


def _answers(route: Route, sample: str, labels: str, now: float) -> Rows:
    for (klass, code), count in route.tally.by_code.items():
        name = CLASS_NAMES[klass]
        yield f'{sample}{{class="{name}",code="{code}",{labels}}} {float(count)!r}\n'


def _rejections(route: Route, sample: str, labels: str, now: float) -> Rows:
    for (klass, reason), count in route.tally.rejected_by_reason.items():
        name = CLASS_NAMES[klass]
        yield f'{sample}{{class="{name}",{labels},reason="{reason}"}} {float(count)!r}\n'


def _retries(route: Route, sample: str, labels: str, now: float) -> Rows:
    for reason, count in route.tally.retries.items():
        yield f'{sample}{{{labels},reason="{reason}"}} {float(count)!r}\n'


def _oldest_waits(route: Route, sample: str, labels: str, now: float) -> Rows:
    for klass in CLASSES:
        wait = route.admission.oldest_wait(klass, now)
        yield f'{sample}{{class="{klass.name}",{labels}}} {float(wait)!r}\n'


def _reserved(index: int) -> Callable[[Route, str, str, float], Rows]:
    def rows(route: Route, sample: str, labels: str, now: float) -> Rows:
        for klass in CLASSES[1:]:  # no class is above the first
            seats = route.admission.held_back(klass, now)[index]
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
    Family("r1_gateway_requests_offered", "counter", "Requests at the door.", _CLASS,
           _by_class(lambda r: r.tally.offered_requests)),
    Family("r1_gateway_tokens_offered", "counter", "Tokens at the door, estimated.", _CLASS,
           _by_class(lambda r: r.tally.offered_tokens)),
    Family("r1_gateway_tokens_generated", "counter",
           "Tokens of complete answers, by the engine's usage where it sends one.", _CLASS,
           _by_class(lambda r: r.tally.generated_tokens)),
    Family("r1_gateway_slo_missed", "counter", "Streams later than promised.", _CLASS,
           _by_class(lambda r: r.tally.slo_missed)),
    Family("r1_gateway_requests", "counter", "Answers by status; 499 = the client left.",
           (*_CLASS, "code"), _answers),
    Family("r1_gateway_rejected", "counter", "Requests refused or timed out in queue.",
           (*_CLASS, "reason"), _rejections),
    Family("r1_gateway_retries", "counter", "Requests tried again, by cause.",
           (*_ROUTE, "reason"), _retries),
    Family("r1_gateway_ejections", "counter", "Ejections of pods that fail more than the others.",
           _ROUTE, _value(lambda r: r.tally.ejections)),
    Family("r1_gateway_queue_length", "gauge", "Requests waiting.", _CLASS,
           _by_class(lambda r: [r.admission.queued(klass) for klass in CLASSES])),
    Family("r1_gateway_oldest_wait_seconds", "gauge", "Wait of the queue's head.", _CLASS,
           _oldest_waits),
    Family("r1_gateway_in_flight", "gauge", "Requests on pods.", _CLASS,
           _by_class(lambda r: r.admission.in_flight)),
    Family("r1_gateway_seats", "gauge", "Seats on available pods.", _ROUTE,
           _value(lambda r: r.admission.pool.available_seats)),
    Family("r1_gateway_ready_endpoints", "gauge",
           "Pods that are ready and whose circuit breaker is closed.", _ROUTE,
           _value(lambda r: r.admission.pool.available)),
    Family("r1_gateway_ejected_endpoints", "gauge",
           "Ready pods that get no requests because they fail more than the others.", _ROUTE,
           _value(lambda r: r.admission.pool.ejected)),
    Family("r1_gateway_seats_reserved", "gauge",
           "Seats that a request of the class leaves free for those above it.", _CLASS,
           _reserved(0)),
    Family("r1_gateway_seats_reserved_by_operator", "gauge",
           "Of these, what the operator advises; no more than are held back.", _CLASS,
           _reserved(1)),
    Family("r1_gateway_queue_wait_seconds", "histogram", "Seconds from arrival to a seat.", _CLASS,
           _histogram(lambda r: r.tally.queue_wait)),
    Family("r1_gateway_time_to_first_token_seconds", "histogram",
           "Seconds from arrival to the first event of a stream with content or a tool call.", _CLASS,
           _histogram(lambda r: r.tally.time_to_first_token)),
    Family("r1_gateway_time_per_output_token_seconds", "histogram",
           "Seconds per token of a stream after its first one, by the engine's token count.", _CLASS,
           _histogram(lambda r: r.tally.time_per_output_token)),
    Family("r1_gateway_request_duration_seconds", "histogram",
           "Seconds from arrival to the last byte of a good answer.", _CLASS,
           _histogram(lambda r: r.tally.latency)),
)  # fmt: skip


def _no_rows(route: Route, sample: str, labels: str, now: float) -> Rows:
    yield from ()


PROCESS_FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("r1_gateway_refused", "counter",
               "Requests that reached no route: bad, unauthorized, unknown model.",
               ("code", "reason"), _no_rows),
        Family("r1_gateway_client_connections", "gauge", "Open connections.", (), _no_rows),
        Family("r1_gateway_upstream_connections_opened", "counter", "Connections opened to pods.",
               (), _no_rows),
        Family("r1_gateway_invalid_configurations", "counter",
               "Routes, keys or files that could not be used; the old ones stayed.", (), _no_rows),
        Family("r1_gateway_refused_configmaps", "gauge",
               "1 for a ConfigMap whose current version cannot be used.",
               ("inference_namespace", "configmap"), _no_rows),
        Family("r1_gateway_background_task_restarts", "counter",
               "Background tasks that ended and were started again.", ("task",), _no_rows),
        Family("r1_gateway_buffered_bytes", "gauge",
               "Bytes of requests and answers that are kept.", (), _no_rows),
        Family("r1_gateway_buffered_bytes_refused", "counter",
               "Times that bytes found the buffer full.", (), _no_rows),
        Family("r1_gateway_log_lines_dropped", "counter",
               "Log lines dropped because their reader was too slow.", ("log",), _no_rows),
    )
}  # fmt: skip


def process_rows(door: Gateway, figures: ProcessFigures) -> Rows:
    """The families that belong to no route."""
    samples: dict[str, Iterable[tuple[tuple[object, ...], float]]] = {
        "refused": [(key, count) for key, count in door.refused.items()],
        "client_connections": [((), len(door.clients))],
        "upstream_connections_opened": [((), door.connections.opened)],
        "invalid_configurations": [((), figures.invalid_configurations())],
        "refused_configmaps": [
            (tuple(key.split("/", 1)), 1) for key in figures.refused_configmaps()
        ],
        "background_task_restarts": [((k,), n) for k, n in figures.task_restarts().items()],
        "buffered_bytes": [((), door.budget.used)],
        "buffered_bytes_refused": [((), door.budget.refused)],
        "log_lines_dropped": [((log,), n) for log, n in figures.dropped_lines().items()],
    }
    for name, values in samples.items():
        family = PROCESS_FAMILIES[f"r1_gateway_{name}"]
        yield family.head()
        for found, value in values:
            pairs = zip(family.labels, found, strict=True)
            labels = ",".join(f'{label}="{_escape(str(text))}"' for label, text in pairs)
            braces = f"{{{labels}}}" if labels else ""
            yield f"{family.sample}{braces} {float(value)!r}\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
