"""HTTP server of the operator: probes, metrics, and decisions for `r1 explain`.

`/readyz` succeeds on a standby too, which is ready to take over. Only the leader has decisions; a
standby responds with 503 and names the leader's Lease.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from r1_common import listen
from r1_common.clock import PROCESS_CLOCK
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.scaling.decision_history import DecisionHistory
from r1_operator.kube.kinds import Key
from r1_operator.metrics import OperatorMetrics


class OperatorServer:
    """Serves on `host:port`; after `start`, `port` is the actual port, also for port 0."""

    def __init__(
        self,
        *,
        liveness: Liveness,
        metrics: OperatorMetrics,
        decisions: DecisionHistory,
        is_active: Callable[[], bool],
        exists: Callable[[Key], bool],
    ) -> None:
        self._liveness = liveness
        self._metrics = metrics
        self._decisions = decisions
        self._is_active = is_active
        self._exists = exists
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Start listening."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        app.router.add_get("/decisions/{namespace}/{name}", self._serve_decisions)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        sockets = listen.bind(host, port)
        self.port = listen.port_of(sockets)
        for each in sockets:
            await web.SockSite(self._runner, each).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        failure = self._liveness.failure() if self._is_active() else None
        return web.Response(text=f"{failure or 'ok'}\n", status=503 if failure else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        return web.Response(text="active\n" if self._is_active() else "standby\n")

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _serve_decisions(self, request: web.Request) -> web.Response:
        key = Key(request.match_info["namespace"], request.match_info["name"])
        if not self._is_active():
            message = "this operator is a standby and has no decisions: ask the holder of the Lease"
            return web.json_response({"error": message}, status=503)
        if not self._exists(key):
            return web.json_response({"error": f"R1Inference {key} does not exist"}, status=404)
        decisions = self._decisions.shown(key, PROCESS_CLOCK.wall_offset())
        return web.json_response(
            {"namespace": key.namespace, "name": key.name, "decisions": decisions}
        )
