"""Aggregated API: mutual TLS, refused clients, and reloaded certificates."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import network_variants
from r1_common.listen import EVERY_ADDRESS
from r1_forecasting.published.catalogue import Catalogue
from r1_forecasting.published.external_metrics_api import ExternalMetricsApi
from r1_forecasting.published.front_proxy import FrontProxy, common_name
from r1_forecasting.published.publication import InferenceName, parse_publication
from r1_forecasting.published.service_account import FrontProxyUnavailable
from r1_forecasting.published.tls_listener import TlsListener
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

ORDERS = parse_publication(
    {"namespace": "shop", "name": "orders", "query": "orders", "leadSeconds": 60}
)
CATALOGUE: Catalogue = {("shop", "orders"): ORDERS}
ROOT = "/apis/external.metrics.k8s.io/v1beta1"
HPA = {"X-Remote-User": "system:serviceaccount:kube-system:horizontal-pod-autoscaler"}


class Door:
    """A listener on every address; the test changes its trust and certificate."""

    def __init__(self, publisher: Any, keys: Path, folder: Path) -> None:
        self.keys = keys
        self.folder = folder
        self.fails: str | None = None
        self.trust = FrontProxy(
            (keys / "front-proxy-ca.crt").read_text(),
            frozenset({"front-proxy-client"}),
            ("X-Remote-User",),
        )
        self.shows("door")
        self.door = TlsListener(EVERY_ADDRESS, 0, folder, self.fetch)
        api = ExternalMetricsApi(publisher, lambda: CATALOGUE, lambda: self.door.trust)
        self.runner = web.AppRunner(api.application(), shutdown_timeout=1)

    async def fetch(self) -> FrontProxy:
        if self.fails is not None:
            raise FrontProxyUnavailable(self.fails)
        return self.trust

    def shows(self, name: str) -> None:
        for ending in ("crt", "key"):
            shutil.copy(self.keys / f"{name}.{ending}", self.folder / f"tls.{ending}")

    async def reload(self) -> None:
        await self.door.reload(self.runner)

    def context(self, client: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.keys / "ca.crt"))
        if client is not None:
            context.load_cert_chain(self.keys / f"{client}.crt", self.keys / f"{client}.key")
        return context

    @asynccontextmanager
    async def asking(
        self,
        path: str,
        client: str | None = "front-proxy-client",
        host: str = "127.0.0.1",
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"https://{host}:{self.door.bound_port}{path}"
        options = {"headers": HPA} | options
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                url,
                ssl=self.context(client),
                server_hostname="r1-forecaster.r1-system.svc",
                **options,
            ) as answer,
        ):
            yield answer


@pytest.fixture
async def door(script: Any, keys: Path, tmp_path: Path) -> AsyncIterator[Door]:
    made = Door(script, keys, tmp_path)
    await made.runner.setup()
    await made.reload()
    yield made
    await made.runner.cleanup()


async def test_an_hpa_reads_a_published_metric(door: Door, script: Any) -> None:
    script.says(15.25)
    async with door.asking(f"{ROOT}/namespaces/shop/orders") as answer:
        assert answer.status == 200
        (item,) = (await answer.json())["items"]
    assert (item["metricName"], item["value"]) == ("orders", "15250m")
    assert script.requests == [ORDERS]


async def test_hpa_reads_the_forecast_of_an_inference(door: Door, script: Any) -> None:
    script.says(700.0)
    path = f"{ROOT}/namespaces/team-a/r1-forecast?labelSelector=inference%3Dproduction-r1"
    async with door.asking(path) as answer:
        (item,) = (await answer.json())["items"]
    assert item["metricLabels"] == {"inference": "production-r1"}
    assert item["value"] == "700000m"
    assert script.requests == [InferenceName("team-a", "production-r1")]


async def test_no_data_is_an_error_with_the_reason(door: Door) -> None:
    async with door.asking(f"{ROOT}/namespaces/shop/orders") as answer:
        assert answer.status == 503
        body = await answer.json()
    assert (body["kind"], body["message"]) == ("Status", "NoData: nothing yet")


async def test_shard_without_a_response_is_an_error(door: Door, script: Any) -> None:
    script.now = ForecastUnavailable(
        UnavailableReason.UNREACHABLE, "r1-forecaster-1 owns this series: no answer"
    )
    async with door.asking(f"{ROOT}/namespaces/shop/orders") as answer:
        assert answer.status == 503
        body = await answer.json()
    assert body["message"] == "Unreachable: r1-forecaster-1 owns this series: no answer"
    async with door.asking(ROOT) as answer:
        assert answer.status == 200, "what there is to ask for is known to every shard"


async def test_discovery_serves_the_aggregators_requests(door: Door) -> None:
    async with door.asking("/apis") as answer:
        assert (await answer.json())["kind"] == "APIGroupList"
    async with door.asking("/apis/external.metrics.k8s.io") as answer:
        assert (await answer.json())["kind"] == "APIGroup"
    async with door.asking(ROOT) as answer:
        assert (await answer.json())["kind"] == "APIResourceList"


@pytest.mark.parametrize("path", ["/", "/openapi/v2", "/openapi/v3", f"{ROOT}/nodes"])
async def test_other_paths_are_not_found_as_a_status(door: Door, path: str) -> None:
    async with door.asking(path) as answer:
        assert answer.status == 404
        assert (await answer.json())["reason"] == "NotFound"


@pytest.mark.parametrize("client", [None, "user"], ids=["anonymous", "the cluster's own CA"])
async def test_without_the_front_proxys_certificate_there_is_no_connection(
    door: Door, script: Any, client: str | None
) -> None:
    script.says(1.0)
    with pytest.raises(aiohttp.ClientError):
        async with door.asking(f"{ROOT}/namespaces/shop/orders", client):
            pass
    assert script.requests == []


async def test_other_common_name_of_the_same_authority_is_refused(door: Door, script: Any) -> None:
    async with door.asking(f"{ROOT}/namespaces/shop/orders", "somebody") as answer:
        assert answer.status == 401
        assert "'somebody' is not the API server's front proxy" in (await answer.json())["message"]
    assert script.requests == []


async def test_front_proxy_request_without_a_user_is_refused(door: Door) -> None:
    async with door.asking(ROOT, headers={}) as answer:
        assert answer.status == 401


async def test_without_allowed_names_the_authority_alone_decides(door: Door) -> None:
    door.trust = FrontProxy(door.trust.authorities, frozenset(), ("X-Remote-User",))
    await door.reload()
    async with door.asking(ROOT, "somebody") as answer:
        assert answer.status == 200


@pytest.mark.skipif(
    network_variants.unavailable(network_variants.PLAIN) is not None, reason="no IPv6"
)
async def test_both_ip_families_are_served_on_one_port_after_a_reload(door: Door) -> None:
    port = door.door.bound_port
    for _ in range(2):
        for host in ("127.0.0.1", "[::1]"):
            async with door.asking(ROOT, host=host) as answer:
                assert answer.status == 200
        door.trust = FrontProxy(door.trust.authorities, frozenset(), ("X-Remote-User",))
        await door.reload()
    assert door.door.bound_port == port


async def shown_certificate(door: Door) -> str:
    _, writer = await asyncio.open_connection(
        "127.0.0.1",
        door.door.bound_port,
        ssl=door.context("front-proxy-client"),
        server_hostname="r1-forecaster.r1-system.svc",
    )
    peer = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return str(common_name(peer))


async def test_renewed_certificate_is_served_on_the_same_port(door: Door) -> None:
    port = door.door.bound_port
    assert await shown_certificate(door) == "door"
    door.shows("renewed")
    await door.reload()
    assert await shown_certificate(door) == "renewed"
    assert door.door.bound_port == port


async def test_a_renewed_authority_shuts_out_the_old_one(door: Door) -> None:
    trust = door.trust
    door.trust = FrontProxy((door.keys / "ca.crt").read_text(), frozenset(), ("X-Remote-User",))
    await door.reload()
    async with door.asking(ROOT, "user") as answer:
        assert answer.status == 200
    with pytest.raises(aiohttp.ClientError):
        async with door.asking(ROOT, "front-proxy-client"):
            pass
    assert trust != door.door.trust


async def test_invalid_certificates_leave_the_port_unchanged_and_are_logged_once(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    (door.folder / "tls.crt").write_text("no certificate")
    with caplog.at_level(logging.WARNING):
        await door.reload()
        await door.reload()
    assert await shown_certificate(door) == "door"
    door.shows("renewed")
    door.fails = "the API server is away"
    await door.reload()
    assert await shown_certificate(door) == "door"
    door.fails = None
    await door.reload()
    assert await shown_certificate(door) == "renewed"
    body = [each.message for each in caplog.records if "keeps its certificates" in each.message]
    assert ["tls.crt and tls.key" in body[0], "is away" in body[1], len(body)] == [True, True, 2]


async def test_tls_listener_stays_closed_until_the_front_proxy_is_known(
    script: Any, keys: Path, tmp_path: Path
) -> None:
    made = Door(script, keys, tmp_path)
    made.fails = "the API server is away"
    following = asyncio.create_task(made.door.serve(web.Application()))
    await asyncio.sleep(0.05)
    assert made.door.bound_port is None
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
