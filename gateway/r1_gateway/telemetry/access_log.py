"""Access log: one JSON line per request, without prompts or keys."""

from __future__ import annotations

import json
import time

from r1_gateway.http.errors import ApiError
from r1_gateway.routes.route import RouteRequest
from r1_gateway.telemetry.output_queue import OutputQueue


class AccessLog:
    """Writes to a queue; the event loop never waits for the file."""

    def __init__(self, output: OutputQueue) -> None:
        self._output = output

    def request_ended(self, request: RouteRequest) -> None:
        """Log a request that reached a route and ended."""
        self._write(
            request=request.request_id.decode("ascii", "replace"),
            route=request.route.spec.key,
            status=request.status,
            **{"class": request.klass.name},
            queueSeconds=round(request.queue_seconds or 0.0, 4),
            seconds=round(time.monotonic() - request.arrived, 4),
        )

    def invalid_request(self, request_id: bytes, error: ApiError) -> None:
        """Log a request that was rejected before it reached a route."""
        self._write(
            request=request_id.decode("ascii", "replace"), status=error.status, code=error.code
        )

    def _write(self, **fields: object) -> None:
        line = {"at": round(time.time(), 3), **fields}
        self._output.write(json.dumps(line).encode() + b"\n")
