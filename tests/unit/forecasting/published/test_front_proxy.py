"""Front proxy: its ConfigMap, read with a pod's service account."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from r1_forecasting.published.external_metrics import MetricRequestRefused
from r1_forecasting.published.front_proxy import (
    FrontProxy,
    InvalidFrontProxy,
    common_name,
    parse_front_proxy,
)
from r1_forecasting.published.service_account import FrontProxyUnavailable, ServiceAccount

DATA = {
    "client-ca-file": "the cluster's, which no aggregated API needs",
    "requestheader-client-ca-file": "PEM",
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-username-headers": '["X-Remote-User"]',
}
TRUST = FrontProxy("PEM", frozenset({"front-proxy-client"}), ("X-Remote-User",))


def test_config_map_is_parsed() -> None:
    assert parse_front_proxy({"data": DATA}) == TRUST


@pytest.mark.parametrize("key", ["requestheader-client-ca-file", "requestheader-username-headers"])
def test_missing_config_map_key_is_named_with_its_flag(key: str) -> None:
    data = {each: DATA[each] for each in DATA if each != key}
    with pytest.raises(InvalidFrontProxy, match=f"has no {key}.*--{key}"):
        parse_front_proxy({"data": data})


@pytest.mark.parametrize("text", ["front-proxy-client", "[1]", "{}"])
def test_names_that_are_no_list_are_refused(text: str) -> None:
    with pytest.raises(InvalidFrontProxy, match="^requestheader-allowed-names"):
        parse_front_proxy({"data": DATA | {"requestheader-allowed-names": text}})


def test_front_proxy_is_checked_by_certificate_and_header() -> None:
    user = {"X-Remote-User": "hpa"}
    TRUST.check("front-proxy-client", user)
    FrontProxy("PEM", frozenset(), ("X-Remote-User",)).check("anyone of theirs", user)
    for name, headers in ((None, user), ("else", user), ("front-proxy-client", {})):
        with pytest.raises(MetricRequestRefused) as refused:
            TRUST.check(name, headers)
        assert refused.value.code is HTTPStatus.UNAUTHORIZED


def test_the_common_name_is_read_as_ssl_gives_it() -> None:
    subject = ((("organizationName", "x"),), (("commonName", "front-proxy-client"),))
    assert common_name({"subject": subject}) == "front-proxy-client"
    assert common_name({"subject": ()}) is None
    assert common_name(None) is None


class ApiServer:
    """Serves the ConfigMap to the right token."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps({"data": DATA})

    async def answer(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer secret-1":
            return web.Response(status=401, text="Unauthorized")
        return web.Response(status=self.status, text=self.body)


@pytest.fixture
def mounted(keys: Path, tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret-1\n")
    (tmp_path / "ca.crt").write_text((keys / "ca.crt").read_text())
    return tmp_path


@pytest.fixture
async def api(keys: Path, mounted: Path) -> AsyncIterator[Any]:
    made = ApiServer()
    app = web.Application()
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    app.router.add_get(path, made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(keys / "api.crt", keys / "api.key")
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    yield made, ServiceAccount(f"https://localhost:{site.port}", mounted)
    await runner.cleanup()


async def test_front_proxy_config_map_is_read_with_the_mounted_token(api: Any) -> None:
    _, account = api
    assert await account.fetch_front_proxy() == TRUST


async def test_a_renewed_token_is_used(api: Any, mounted: Path) -> None:
    _, account = api
    (mounted / "token").write_text("expired")
    with pytest.raises(FrontProxyUnavailable, match="answered 401"):
        await account.fetch_front_proxy()
    (mounted / "token").write_text("secret-1")
    assert await account.fetch_front_proxy() == TRUST


async def test_without_the_right_the_role_is_named(api: Any) -> None:
    server, account = api
    server.status, server.body = 403, "forbidden"
    with pytest.raises(
        FrontProxyUnavailable, match="Role extension-apiserver-authentication-reader"
    ):
        await account.fetch_front_proxy()


async def test_server_certificate_of_another_authority_is_refused(
    api: Any, mounted: Path, keys: Path
) -> None:
    _, account = api
    (mounted / "ca.crt").write_text((keys / "front-proxy-ca.crt").read_text())
    with pytest.raises(FrontProxyUnavailable, match="cannot be read|is no JSON object"):
        await account.fetch_front_proxy()


async def test_missing_or_invalid_config_map_responses_are_errors(api: Any, mounted: Path) -> None:
    server, account = api
    for nonsense in ("<html>", "[]"):
        server.body = nonsense
        with pytest.raises(FrontProxyUnavailable, match="cannot be read|is no JSON object"):
            await account.fetch_front_proxy()
    with pytest.raises(FrontProxyUnavailable, match="cannot be read|is no JSON object"):
        await ServiceAccount("https://localhost:1", mounted).fetch_front_proxy()
    with pytest.raises(FrontProxyUnavailable, match="cannot be read|is no JSON object"):
        await ServiceAccount(account.server, mounted / "nothing").fetch_front_proxy()


def test_api_server_url_comes_from_the_pods_environment() -> None:
    folder = Path("/x")
    environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert ServiceAccount.of_pod(folder, environment).server == "https://10.96.0.1:443"
    six = environment | {"KUBERNETES_SERVICE_HOST": "fd00::1"}
    assert ServiceAccount.of_pod(folder, six).server == "https://[fd00::1]:443"
    with pytest.raises(FrontProxyUnavailable, match="KUBERNETES_SERVICE_HOST"):
        ServiceAccount.of_pod(folder, {})
