"""External metrics of Prometheus, polled in the background."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from r1_common.contracts.unavailable import Unavailable
from r1_common.prometheus.client_config import load_config
from r1_common.prometheus.response import HttpResponse, read_response
from r1_operator.kube.kinds import Key
from r1_operator.sources.external import NOT_CONFIGURED, PENDING, ExternalMetrics, Value, read_value

KEY = Key("default", "r1")


def vector(*values: str) -> dict[str, Any]:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (vector("3.5"), 3.5),
        ({"status": "success", "data": {"resultType": "scalar", "result": [1.0, "2"]}}, 2.0),
        (vector(), "NoData"),
        (vector("1", "2"), "NotOneValue"),
        (vector("NaN"), "NotANumber"),
        (vector("+Inf"), "NotANumber"),
        ({"status": "success", "data": {"resultType": "matrix", "result": []}}, "NotOneValue"),
        ({"status": "success", "data": {"resultType": "vector", "result": [{}]}}, "Invalid"),
    ],
)
def test_a_query_result_is_one_value_or_has_a_reason(answer: Any, expected: float | str) -> None:
    response = HttpResponse(200, {}, json.dumps(answer).encode())
    read = read_value(read_response("http://prometheus", response))
    assert (read.reason if isinstance(read, Unavailable) else read) == expected


class Prometheus:
    """Returns scripted responses; records the queries."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: Any = vector("3.5")
        self.queries: list[str] = []
        self.now = 0.0
        self.status = 200
        self.runner: web.AppRunner | None = None

    async def leave(self) -> None:
        """Stop the server."""
        assert self.runner is not None
        await self.runner.cleanup()

    async def handle(self, request: web.Request) -> web.Response:
        self.queries.append(request.query["query"])
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    """A server on a free port."""
    site = Prometheus()
    app = web.Application()
    app.router.add_get("/api/v1/query", site.handle)
    site.runner = runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


async def settled(source: ExternalMetrics, query: str) -> Value | Unavailable:
    for _ in range(500):
        source.latest(KEY, query)
        if not source._poller._tasks:
            return source.latest(KEY, query)
        await asyncio.sleep(0.01)
    raise AssertionError("no answer")


async def test_an_external_metric_is_pending_before_the_first_response(
    prometheus: Prometheus,
) -> None:
    source = ExternalMetrics(load_config(prometheus.url), clock=lambda: prometheus.now)
    assert source.latest(KEY, "sum(up)") == PENDING
    assert await settled(source, "sum(up)") == 3.5
    assert prometheus.queries == ["sum(up)"]
    prometheus.now, prometheus.answer = 20.0, vector("4")
    assert source.latest(KEY, "sum(up)") == 3.5
    assert await settled(source, "sum(up)") == 4.0
    await source.close()


async def test_an_external_value_survives_a_short_outage_only(
    prometheus: Prometheus,
) -> None:
    source = ExternalMetrics(load_config(prometheus.url), clock=lambda: prometheus.now)
    assert await settled(source, "up") == 3.5
    await prometheus.leave()
    prometheus.now = 59.0
    assert await settled(source, "up") == 3.5
    prometheus.now = 61.0
    stale = await settled(source, "up")
    assert isinstance(stale, Unavailable)
    assert stale.reason == "StaleMetric"
    assert "The last value is 61 s old." in stale.message
    assert "does not answer" in stale.message
    await source.close()


async def test_a_prometheus_without_any_response_is_unreachable() -> None:
    source = ExternalMetrics(load_config("http://127.0.0.1:9"))
    unreachable = await settled(source, "up")
    assert isinstance(unreachable, Unavailable)
    assert unreachable.reason == "Unreachable"
    await source.close()


async def test_short_server_errors_keep_the_value_and_long_ones_name_the_status(
    prometheus: Prometheus,
) -> None:
    source = ExternalMetrics(load_config(prometheus.url), clock=lambda: prometheus.now)
    assert await settled(source, "up") == 3.5
    prometheus.status, prometheus.now = 503, 40.0
    assert await settled(source, "up") == 3.5
    prometheus.now = 61.0
    stale = await settled(source, "up")
    assert isinstance(stale, Unavailable)
    assert "503 Service Unavailable" in stale.message
    prometheus.status, prometheus.now = 401, 80.0
    refused = await settled(source, "up")
    assert isinstance(refused, Unavailable)
    assert refused.reason == "Refused"
    await source.close()


async def test_without_prometheus_the_message_names_the_setting() -> None:
    source = ExternalMetrics(load_config(""))
    assert source.latest(KEY, "up") is NOT_CONFIGURED
    assert "R1_PROMETHEUS_URL" in NOT_CONFIGURED.message
    await source.close()


async def test_unused_queries_are_dropped(prometheus: Prometheus) -> None:
    source = ExternalMetrics(load_config(prometheus.url))
    await settled(source, "a")
    await settled(source, "b")
    source.retain(KEY, ["b"])
    assert source.latest(KEY, "b") == 3.5
    assert source.latest(KEY, "a") == PENDING
    source.retain(KEY, ())
    assert source.latest(KEY, "b") == PENDING
    await source.close()
