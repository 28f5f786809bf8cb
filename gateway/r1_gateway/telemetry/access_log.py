"""Access log: one JSON line per request, without prompts or keys."""

from __future__ import annotations

import json
import time

from r1_gateway.http.errors import ApiError
from r1_gateway.routes.route import RouteRequest
from r1_gateway.telemetry.output_queue import OutputQueue
from r1_gateway.tenants.caller import Caller


class AccessLog:
    """Writes to a queue; the event loop never waits for the file."""

    def __init__(self, output: OutputQueue) -> None:
        self._output = output

    def request_ended(self, request: RouteRequest) -> None:
        """Log a request that reached a route and ended."""
        attempt, first = request.attempt, request.first_token_seconds
        self._write(
            request=request.request_id.decode("ascii", "replace"),
            route=request.route.spec.key,
            tenant=request.caller.tenant,
            key=request.caller.key_id,
            status=request.status,
            cause=request.cause or ("completed" if request.status < 400 else "pod_response"),
            **{"class": request.klass.name},
            queueSeconds=round(request.queue_seconds or 0.0, 4),
            firstTokenSeconds=None if first is None else round(first, 4),
            seconds=round(time.monotonic() - request.arrived, 4),
            inputTokens=request.tokens[0],
            outputTokens=request.tokens[1],
            pod=None if attempt is None else attempt.address,
            attempts=0 if attempt is None else attempt.number,
        )

    def invalid_request(self, request_id: bytes, error: ApiError, caller: Caller | None) -> None:
        """Log a request that was rejected before it reached a route."""
        self._write(
            request=request_id.decode("ascii", "replace"),
            tenant=None if caller is None else caller.tenant,
            key=None if caller is None else caller.key_id,
            status=error.status,
            cause=error.code,
            code=error.code,
        )

    def _write(self, **fields: object) -> None:
        line = {"at": round(time.time(), 3), **fields}
        self._output.write(json.dumps(line).encode() + b"\n")
