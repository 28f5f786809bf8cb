"""Peers beside Prometheus: a body that is no JSON is reported with the HTTP status."""

from __future__ import annotations

import pytest
from kubernetes.aio.client import Configuration

from r1_common.foreign_json import InvalidJson
from r1_common.http_json import read_json
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.sharding.ownership import Shards
from r1_forecasting.sharding.peers import NoPeerResponse, Peers
from r1_operator.cli import main
from r1_operator.kube.client import Api, RetryPolicy, Unreachable
from r1_operator.plan.unavailable import Unavailable
from r1_operator.sources.cached_poller import CachedPoller
from r1_operator.sources.gateways import GatewayDirectory
from r1_operator.sources.signals import GatewaySignals
from scripted_prometheus import Reply, Script

BODIES = [
    (Reply(502, b"<html>", "text/html"), "502"),
    (Reply(200, b"<html>", "text/html"), "200"),
    (Reply(200, b""), "200"),
    (Reply(200, b'{"cut'), "200"),
    (Reply(200, b"[" * 100_000), "200"),
]


@pytest.mark.parametrize(("reply", "status"), BODIES)
async def test_the_forecaster(server: Script, reply: Reply, status: str) -> None:
    server.reply = reply
    peer: CachedPoller[str, int] = CachedPoller(server.url, "The forecaster", holds=lambda _: True)
    said = await peer.fetch("POST", "/v1/forecast", json={})
    await peer.close()
    assert isinstance(said, Unavailable)
    assert f"The forecaster answered {status}" in said.message
    assert "Expecting value" not in said.message


@pytest.mark.parametrize(("reply", "status"), BODIES)
async def test_a_gateway(server: Script, reply: Reply, status: str) -> None:
    server.reply = reply
    signals = GatewaySignals(GatewayDirectory(None, urls=(server.url,)))
    silent = (await signals.read()).silent
    await signals.close()
    (why,) = silent.values()
    assert status in why
    assert "Expecting value" not in why


@pytest.mark.parametrize(("reply", "status"), BODIES)
async def test_another_shard(server: Script, reply: Reply, status: str) -> None:
    server.reply = reply
    peers = Peers(ForecastMetrics())
    shards = Shards("two", {"one": server.url})
    said = await peers.post(shards, "one", "/v1/shard/forecast", {}, 5.0)
    await peers.close()
    assert isinstance(said, NoPeerResponse)
    assert f"one answered {status}" in said.message
    assert "Expecting value" not in said.message


@pytest.mark.parametrize(("reply", "status"), [*BODIES, (Reply(200, b"[1]"), "decisions")])
def test_the_operator_behind_explain(
    server: Script, reply: Reply, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = reply
    assert main(["explain", "r1", "--operator-url", server.url]) == 1
    said = capsys.readouterr().err
    assert status in said
    assert "Expecting value" not in said


async def test_the_api_server(server: Script) -> None:
    server.reply = Reply(200, b"<html>", "text/html")
    configuration = Configuration(host=server.url)
    async with Api(configuration, retry=RetryPolicy(attempts=1)) as api:
        with pytest.raises(Unreachable, match="200 with a body that is not a JSON object"):
            await api.request("GET", "/api/v1/pods")


def test_a_document_is_returned_whatever_the_content_type() -> None:
    assert read_json(200, "", b"[1]") == [1]


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (200, "", b" ", "answered 200 OK (no content type): the body is empty"),
        (
            502,
            "text/html; charset=x",
            b"<p>",
            "answered 502 Bad Gateway (text/html): the body of 3",
        ),
        (799, "x\ny", b"{", "answered 799 (x?y): the body of 1 bytes is not JSON"),
    ],
)
def test_what_is_no_json_is_named(status: int, kind: str, body: bytes, message: str) -> None:
    with pytest.raises(InvalidJson) as failure:
        read_json(status, kind, body)
    assert str(failure.value).startswith(message)
