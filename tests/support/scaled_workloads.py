"""Server with workloads without pods and the external metric by which an autoscaler scales them.

The API server's aggregator serves it as two APIs: `external.metrics.k8s.io` and a test group whose only
resource has a `scale` subresource. A workload's status follows its spec at once, so each sync of an
autoscaler reads the replicas of the previous one, and no pod runs. Each sync reads the metric once:
the series has one value per sync.
"""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GROUP, VERSION, KIND, PLURAL = "scaled.test", "v1", "Workload", "workloads"
METRICS = "/apis/external.metrics.k8s.io/v1beta1"
WORKLOADS = f"/apis/{GROUP}/{VERSION}"
Series = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Look:
    """One sync of the autoscaler: time, metric value (None: an error), and replicas at that time."""

    at: float
    shown: float | None
    replicas: int


@dataclass(slots=True)
class Workload:
    """Replicas, the metric series (one value per sync), and the syncs so far."""

    series: Series
    replicas: int
    looks: list[Look] = field(default_factory=list)
    looks_answered: int = 0
    """Number of syncs when the replicas were last set."""
    moved_unseen: list[tuple[float, int]] = field(default_factory=list)
    """Replicas that were set without a metric read since the previous change."""

    @property
    def finished(self) -> bool:
        """Whether the sync after the last value of the series has started."""
        return len(self.looks) > len(self.series)


class Stage:
    """The workloads by name; the metric of a workload has its name."""

    def __init__(self, workloads: Mapping[str, Workload]) -> None:
        self.workloads = workloads
        self._lock = threading.Lock()

    def look(self, name: str) -> float | None:
        """Return the next value of the series, or the last one at its end."""
        with self._lock:
            workload = self.workloads[name]
            at = min(len(workload.looks), len(workload.series) - 1)
            shown = workload.series[at]
            workload.looks.append(Look(time.time(), shown, workload.replicas))
            return shown

    def scale(self, name: str, replicas: int | None = None) -> dict[str, Any]:
        """Set the replicas if given; return the scale of a workload."""
        with self._lock:
            workload = self.workloads[name]
            if replicas is not None:
                if len(workload.looks) == workload.looks_answered:
                    workload.moved_unseen.append((time.time(), replicas))
                workload.looks_answered = len(workload.looks)
                workload.replicas = replicas
            count = workload.replicas
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": "default", "resourceVersion": "1"},
            "spec": {"replicas": count},
            "status": {"replicas": count, "selector": f"app={name}"},
        }


def _resources(group_version: str, *listed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": [{"singularName": "", "namespaced": True, **each} for each in listed],
    }


DISCOVERY = {
    METRICS: _resources(
        "external.metrics.k8s.io/v1beta1",
        {"name": "any", "kind": "ExternalMetricValueList", "verbs": ["get"]},
    ),
    WORKLOADS: _resources(
        f"{GROUP}/{VERSION}",
        {"name": PLURAL, "kind": KIND, "verbs": ["get"]},
        {
            "name": f"{PLURAL}/scale",
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": ["get", "update"],
        },
    ),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stage: Stage

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path in DISCOVERY:
            self._answer(200, DISCOVERY[path])
        elif path.startswith(f"{METRICS}/namespaces/default/"):
            self._show(path.rsplit("/", 1)[1])
        elif path.endswith("/scale"):
            self._answer(200, self.stage.scale(path.split("/")[-2]))
        else:
            self._refuse(404, "NotFound")

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.partition("?")[0].split("/")[-2]
        self._answer(200, self.stage.scale(name, body["spec"]["replicas"]))

    def _show(self, name: str) -> None:
        if name not in self.stage.workloads:
            self._refuse(404, "NotFound")
            return
        shown = self.stage.look(name)
        if shown is None:
            self._refuse(503, "ServiceUnavailable")
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        value = f"{math.floor(shown * 1000 + 0.5)}m"
        item = {"metricName": name, "metricLabels": {}, "timestamp": at, "value": value}
        listed = {
            "kind": "ExternalMetricValueList",
            "apiVersion": "external.metrics.k8s.io/v1beta1",
        }
        self._answer(200, listed | {"metadata": {}, "items": [item]})

    def _refuse(self, code: int, reason: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
        self._answer(code, status | {"reason": reason, "message": "no such object", "metadata": {}})

    def _answer(self, code: int, body: Mapping[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def serving(stage: Stage, certificate: Path, key: Path) -> Iterator[int]:
    """Serve the workloads on the loopback interface with TLS; yields the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stage": stage}))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
