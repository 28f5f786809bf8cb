"""Fake gateway and forecaster for tests of scaling, and conditions to wait for."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, Json, Key


@dataclass
class FakeSites:
    """A gateway's `/signals` and `/seat-reservations` and a forecaster's `/v1/forecast` on one port."""

    url: str = ""
    rate: float = 0.0
    route: str = ""
    peak: float | None = None
    questions: list[Json] = field(default_factory=list)
    advice: list[Json] = field(default_factory=list)
    _offered: float = 0.0
    _at: float = field(default_factory=time.time)
    started: float = field(default_factory=lambda: time.time() - 3600)

    def advance(self) -> float:
        now = time.time()
        self._offered += self.rate * (now - self._at)
        self._at = now
        return self._offered

    async def signals(self, _: web.Request) -> web.Response:
        offered = self.advance()
        figures: Json = {"offeredRequests": {"Q2": offered}, "offeredTokens": {"Q2": offered * 100}}
        zeros = ("completed", "failed", "rejected", "cancelled", "queued", "oldestWaitSeconds")
        for name in (*zeros, "inFlight"):
            figures[name] = {"Q2": 0}
        figures |= {
            "queuedWithoutEndpoints": 0,
            "seatOccupancySeconds": 20.0,
            "seats": 16,
            "readyEndpoints": 2,
        }
        body = {
            "gateway": "gw-0",
            "startedAt": self.started,
            "at": self._at,
            "routes": {self.route: figures},
        }
        return web.json_response(body)

    async def reserve_seats(self, request: web.Request) -> web.Response:
        self.advice.append(await request.json())
        return web.Response(status=204)

    async def forecast(self, request: web.Request) -> web.Response:
        question = await request.json()
        self.questions.append(question)
        if self.peak is None:
            answer: Json = {"state": "Unavailable", "reason": "Training", "message": "Soon."}
            return web.json_response({"series": question["series"], **answer})
        now = time.time()
        quantiles = {str(level): self.peak for level in question["levels"]}
        gate = {"open": True, "reason": "BeatsBaselines", "message": "It does.", "scores": {}}
        return web.json_response(
            {
                "series": question["series"],
                "state": "Ready",
                "reason": "BeatsBaselines",
                "message": "",
                "issuedAt": now,
                "validUntil": now + 60,
                "model": "lstm",
                "gate": gate,
                "points": [{"at": now + 60, "quantiles": quantiles}],
                "peakOverLead": quantiles,
                "coverage": {},
                "lastObserved": {"at": now, "value": self.peak},
            }
        )


@pytest.fixture
async def sites() -> AsyncIterator[FakeSites]:
    """The fake gateway and forecaster, listening."""
    fakes = FakeSites()
    app = web.Application()
    app.router.add_get("/signals", fakes.signals)
    app.router.add_put("/seat-reservations", fakes.reserve_seats)
    app.router.add_post("/v1/forecast", fakes.forecast)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fakes.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fakes
    await runner.cleanup()


def at_least(api: Api, key: Key, count: int) -> Any:
    """A condition to wait for: the Deployment requests at least `count` replicas."""

    async def check() -> bool:
        deployment = await api.get(DEPLOYMENT, *key)
        return deployment is not None and deployment["spec"]["replicas"] >= count

    return check


async def decisions(port: int, key: Key) -> list[Json]:
    """The decisions that `r1 explain` reads."""
    url = f"http://127.0.0.1:{port}/decisions/{key.namespace}/{key.name}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return list((await response.json())["decisions"])
