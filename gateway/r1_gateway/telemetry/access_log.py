"""The access log: one JSON line per answer, without prompts or keys."""

from __future__ import annotations

import json
import time

from r1_gateway.http.errors import ApiError
from r1_gateway.http.exchange import Exchange
from r1_gateway.telemetry.output_queue import OutputQueue


class AccessLog:
    """Writes to a queue, never to the file itself."""

    def __init__(self, output: OutputQueue) -> None:
        self._output = output

    def ended(self, exchange: Exchange) -> None:
        """A request that reached a route has its answer, or its client is gone."""
        self._write(
            request=exchange.request_id.decode("ascii", "replace"),
            route=exchange.route.spec.key,
            status=exchange.status,
            **{"class": exchange.klass.name},
            queueSeconds=round(exchange.queue_seconds or 0.0, 4),
            seconds=round(time.monotonic() - exchange.arrived, 4),
        )

    def refused(self, request_id: bytes, error: ApiError) -> None:
        """A request was refused before it reached a route."""
        self._write(
            request=request_id.decode("ascii", "replace"), status=error.status, code=error.code
        )

    def _write(self, **fields: object) -> None:
        line = {"at": round(time.time(), 3), **fields}
        self._output.write(json.dumps(line).encode() + b"\n")
