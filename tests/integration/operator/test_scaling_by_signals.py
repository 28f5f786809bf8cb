"""A gateway that says how much is asked for, and replicas that follow; the words reach everywhere."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from r1_bench.operator_lab import QUICK, connect, operating, resource, until
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, EVENT, R1INFERENCE, Json, Key

pytestmark = pytest.mark.apiserver


@dataclass
class FakeSites:
    """A gateway's `/signals` and a forecaster's `/v1/forecast` on one port."""

    url: str = ""
    rate: float = 0.0
    route: str = ""
    peak: float | None = None
    questions: list[Json] = field(default_factory=list)
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
        for name in ("completed", "failed", "rejected", "queued", "oldestWaitSeconds", "inFlight"):
            figures[name] = {"Q2": 0}
        figures |= {"held": 0, "seats": 16, "readyEndpoints": 2}
        body = {
            "gateway": "gw-0",
            "startedAt": self.started,
            "at": self._at,
            "routes": {self.route: figures},
        }
        return web.json_response(body)

    async def forecast(self, request: web.Request) -> web.Response:
        question = await request.json()
        self.questions.append(question)
        if self.peak is None:
            answer: Json = {"state": "Unavailable", "reason": "Training", "message": "Soon."}
            return web.json_response({"subject": question["subject"], **answer})
        now = time.time()
        quantiles = {str(level): self.peak for level in question["levels"]}
        gate = {"acts": True, "reason": "BeatsBaselines", "message": "It does.", "scores": {}}
        return web.json_response(
            {
                "subject": question["subject"],
                "state": "Ready",
                "reason": "BeatsBaselines",
                "message": "",
                "issuedAt": now,
                "validUntil": now + 60,
                "model": "lstm",
                "gate": gate,
                "points": [{"at": now + 60, "quantiles": quantiles}],
                "peakOverLead": quantiles,
            }
        )


@pytest.fixture
async def sites() -> AsyncIterator[FakeSites]:
    """The fakes, served."""
    fakes = FakeSites()
    app = web.Application()
    app.router.add_get("/signals", fakes.signals)
    app.router.add_post("/v1/forecast", fakes.forecast)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fakes.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fakes
    await runner.cleanup()


AUTOSCALING: Json = {
    "minReplicas": 2,
    "maxReplicas": 10,
    "metrics": [{"type": "RequestsPerSecond", "target": 10}],
    "forecast": {"stepSeconds": 1, "seasonSeconds": 60, "historySeconds": 600},
}


def at_least(api: Api, key: Key, count: int) -> Any:
    """A condition to wait for: so many replicas are asked for."""

    async def check() -> bool:
        found = await api.get(DEPLOYMENT, *key)
        return found is not None and found["spec"]["replicas"] >= count

    return check


async def decisions(port: int, key: Key) -> list[Json]:
    """What `r1 explain` would be told."""
    url = f"http://127.0.0.1:{port}/decisions/{key.namespace}/{key.name}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return list((await response.json())["decisions"])


async def test_replicas_follow_what_is_offered_and_every_place_says_why(
    api: Api, apiserver: Path, namespace: str, sites: FakeSites
) -> None:
    key = Key(namespace, "busy")
    sites.route, sites.rate = str(key), 45.0  # 45 / (0.7 x 10): 7 replicas
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=(sites.url,))
    body = resource(key.name, namespace, replicas=2, autoscaling=AUTOSCALING)
    await api.create(R1INFERENCE, namespace, body)
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(at_least(api, key, 7), "seven replicas", seconds=40)

        async def told() -> Json | None:
            found = await api.get(R1INFERENCE, *key) or {}
            status = found["status"]
            return status if status["desiredReplicas"] == 7 else None

        status = await until(told, "the status")
        assert status["mode"] == "Reactive"
        assert status["lastScale"]["to"] == 7
        conditions = {one["type"]: one for one in status["conditions"]}
        assert conditions["ScalingActive"]["status"] == "True"

        found = await decisions(operation.server.port, key)
        risen = next(one for one in reversed(found) if one["replicas"] > one["current"])
        assert risen["message"] == status["lastScale"]["message"], "the same words"
        assert risen["inputs"]["demand"]["requestsPerSecond"] == pytest.approx(45, rel=0.2)

        async def event() -> Json | None:
            answer = await api.request("GET", EVENT.path(namespace))
            reasons = {one["reason"]: one for one in answer["items"]}
            return reasons.get("ScaledUp")

        written = await until(event, "the Event")
        assert written["regarding"]["name"] == key.name

        sites.rate = 0.0
        await asyncio.sleep(5)
        deployment = await api.get(DEPLOYMENT, *key)
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 7, "nothing falls before the window has passed"


async def test_a_silent_gateway_holds_the_count_and_says_so(
    api: Api, apiserver: Path, namespace: str, sites: FakeSites
) -> None:
    key = Key(namespace, "held")
    sites.route = str(key)
    urls = (sites.url, "http://127.0.0.1:9/")
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=urls)
    body = resource(key.name, namespace, replicas=5, autoscaling=AUTOSCALING)
    await api.create(R1INFERENCE, namespace, body)
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(at_least(api, key, 5), "the Deployment")

        async def said() -> Json | None:
            found = await api.get(R1INFERENCE, *key) or {}
            for one in found.get("status", {}).get("conditions", ()):
                if one["type"] == "ScalingActive" and one["status"] == "False":
                    return dict(one)
            return None

        condition = await until(said, "ScalingActive is False")
        assert condition["reason"] == "MetricsUnavailable"
        newest = (await decisions(operation.server.port, key))[-1]
        assert newest["replicas"] == 5


async def test_a_forecast_raises_the_count_before_the_load_does(
    api: Api, apiserver: Path, namespace: str, sites: FakeSites
) -> None:
    key = Key(namespace, "foreseen")
    sites.route, sites.rate, sites.peak = str(key), 5.0, 40.0
    settings = replace(
        QUICK, namespaces=(namespace,), gateway_urls=(sites.url,), forecaster_url=sites.url
    )
    body = resource(key.name, namespace, replicas=2, autoscaling=AUTOSCALING)
    await api.create(R1INFERENCE, namespace, body)
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        # A quantile of the peak may fill half of the headroom: 40 / (.85 x 10).
        await until(at_least(api, key, 5), "five replicas by forecast", seconds=40)
        (question, *_) = sites.questions
        assert question["subject"] == str(key)
        assert f'inference="{key.name}"' in question["query"]
        assert 0.9 in question["levels"]
        found = await decisions(operation.server.port, key)
        assert json.dumps(found).count("ForecastDemand") >= 1

        async def predictive() -> bool:
            found = await api.get(R1INFERENCE, *key) or {}
            return str(found["status"]["mode"]) == "Predictive"

        await until(predictive, "mode Predictive")
        url = f"http://127.0.0.1:{operation.server.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            exposed = await response.text()
        labels = f'inference="{key.name}",inference_namespace="{namespace}"'
        per_metric = f'{labels},metric="RequestsPerSecond"'
        assert f'r1_operator_forecast_peak{{{per_metric},quantile="0.9"}} 40.0' in exposed
        assert f"r1_operator_demand{{{per_metric}}}" in exposed
        assert f"r1_operator_desired_replicas{{{labels}}} 5.0" in exposed
