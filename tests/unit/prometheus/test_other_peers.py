"""Peers other than Prometheus: a body that is not JSON is reported with the HTTP status."""

from __future__ import annotations

import pytest
from kubernetes.aio.client import Configuration

from r1_common.contracts.unavailable import Unavailable
from r1_common.http_json import read_json
from r1_common.untrusted_json import InvalidJson
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.sharding.ownership import Shards
from r1_forecasting.sharding.peers import NoPeerResponse, Peers
from r1_operator.cli import main
from r1_operator.kube.client import Api, RetryPolicy, Unreachable
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
async def test_non_json_from_the_forecaster_is_reported_with_its_status(
    server: Script, reply: Reply, status: str
) -> None:
    server.reply = reply
    peer: CachedPoller[str, int] = CachedPoller(
        server.url, "The forecaster", is_valid=lambda _: True
    )
    response = await peer.fetch("POST", "/v1/forecast", json={})
    await peer.close()
    assert isinstance(response, Unavailable)
    assert f"The forecaster answered {status}" in response.message
    assert "Expecting value" not in response.message


@pytest.mark.parametrize(("reply", "status"), BODIES)
async def test_non_json_from_a_gateway_is_reported_with_its_status(
    server: Script, reply: Reply, status: str
) -> None:
    server.reply = reply
    signals = GatewaySignals(GatewayDirectory(None, urls=(server.url,)))
    silent = (await signals.read()).silent
    await signals.close()
    (why,) = silent.values()
    assert status in why
    assert "Expecting value" not in why


@pytest.mark.parametrize(("reply", "status"), BODIES)
async def test_non_json_from_another_shard_is_reported_with_its_status(
    server: Script, reply: Reply, status: str
) -> None:
    server.reply = reply
    peers = Peers(ForecastMetrics())
    shards = Shards("two", {"one": server.url})
    response = await peers.post(shards, "one", "/v1/shard/forecast", {}, 5.0)
    await peers.close()
    assert isinstance(response, NoPeerResponse)
    assert f"one answered {status}" in response.message
    assert "Expecting value" not in response.message


@pytest.mark.parametrize(("reply", "status"), [*BODIES, (Reply(200, b"[1]"), "decisions")])
def test_non_json_from_the_operator_is_reported_by_explain(
    server: Script, reply: Reply, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = reply
    assert main(["explain", "r1", "--operator-url", server.url]) == 1
    output = capsys.readouterr().err
    assert status in output
    assert "Expecting value" not in output


async def test_non_json_from_the_api_server_is_reported_with_its_status(server: Script) -> None:
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
def test_non_json_body_is_described(status: int, kind: str, body: bytes, message: str) -> None:
    with pytest.raises(InvalidJson) as failure:
        read_json(status, kind, body)
    assert str(failure.value).startswith(message)
