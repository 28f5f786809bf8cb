"""JSON Web Tokens as credentials, with a real JWKS over HTTP."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from r1_gateway.server import GatewayServer
from scripted_pod import ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
ISSUER, AUDIENCE = "https://login.test", "r1"


class Issuer:
    """An issuer with one key at a time."""

    def __init__(self) -> None:
        self.reads = 0
        self.rotate("first")

    def rotate(self, kid: str) -> None:
        self.kid = kid
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    async def jwks(self, request: web.Request) -> web.Response:
        self.reads += 1
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return web.json_response({"keys": [{**public, "kid": self.kid}, {"kty": "oct"}]})

    def token(self, **changes: Any) -> str:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 600, "team": "search"}
        claims |= changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": self.kid})


@asynccontextmanager
async def issuer_at(port: int = 0) -> AsyncIterator[tuple[Issuer, str]]:
    issuer = Issuer()
    application = web.Application()
    application.router.add_get("/jwks", issuer.jwks)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield issuer, f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    finally:
        await runner.cleanup()


def settings(url: str) -> dict[str, Any]:
    return {"issuer": ISSUER, "audience": AUDIENCE, "jwksUrl": url, "tenantClaim": "team"}


async def status_of(server: GatewayServer, token: str) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"http://127.0.0.1:{server.port}/v1/completions",
            json={"model": "m", "prompt": "x"},
            headers={"authorization": f"Bearer {token}", "x-r1-priority": "Q1"},
        ) as response,
    ):
        return response.status, response.headers.get("x-r1-class", "")


async def test_a_valid_token_has_the_rights_of_its_tenant_and_a_new_key_is_found(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async with issuer_at() as (issuer, url):
        keys = {"tenants": {"search": {"maxClass": "Q2"}}, "keys": {}, "jwt": settings(url)}
        server = await open_gateway(await new_pod(), keys=keys)
        await until(lambda: server.gateway.tokens._keys is not None)
        assert await status_of(server, issuer.token()) == (200, "Q2")
        forged = jwt.encode({"team": "search"}, "x" * 32, algorithm="HS256")
        other = Issuer()
        for invalid in (
            issuer.token(exp=time.time() - 60),
            issuer.token(exp=None),
            issuer.token(iss="https://other.test"),
            issuer.token(aud="other"),
            issuer.token(team="unknown"),
            issuer.token(team=7),
            issuer.token(nbf=time.time() + 600),
            other.token(),
            forged,
            "a.b.c",
            issuer.token()[:-6] + "AAAAAA",
        ):
            assert (await status_of(server, invalid))[0] == 401, invalid
        issuer.rotate("second")
        server.gateway.tokens._read_at -= 10  # the pause between two reads has passed
        assert (await status_of(server, issuer.token()))[0] == 401
        await until(lambda: issuer.reads > 1)
        await until(lambda: "second" in (server.gateway.tokens._keys or {}))
        assert (await status_of(server, issuer.token()))[0] == 200


async def test_before_the_first_read_of_the_signing_keys_the_answer_is_503(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    keys = {"tenants": {"*": {}}, "jwt": settings("http://127.0.0.1:9/jwks")}
    server = await open_gateway(await new_pod(), keys=keys)
    assert (await status_of(server, Issuer().token()))[0] == 503


@pytest.mark.parametrize("tenant", ["search", "anything"])
async def test_the_tenant_star_has_the_rights_of_undeclared_tenants(
    tenant: str, open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async with issuer_at() as (issuer, url):
        keys = {"tenants": {"*": {"maxClass": "Q3"}}, "jwt": settings(url)}
        server = await open_gateway(await new_pod(), keys=keys)
        await until(lambda: server.gateway.tokens._keys is not None)
        assert await status_of(server, issuer.token(team=tenant)) == (200, "Q3")
        assert tenant in server.gateway.usage.tenants
