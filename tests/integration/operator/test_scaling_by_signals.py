"""A gateway that says how much is asked for, and replicas that follow; the words reach everywhere."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from fake_services import FakeSites, at_least, decisions
from r1_bench.operator_scale.testbed import QUICK, connect, operating, resource, until
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import DEPLOYMENT, EVENT, R1INFERENCE, Json, Key

pytestmark = pytest.mark.apiserver

AUTOSCALING: Json = {
    "minReplicas": 2,
    "maxReplicas": 10,
    "metrics": [{"type": "RequestsPerSecond", "target": 10}],
    "forecast": {"stepSeconds": 1, "seasonSeconds": 60, "historySeconds": 600},
}


async def test_replicas_follow_offered_load_and_every_place_shows_the_reason(
    api: Api, apiserver: Path, namespace: str, sites: FakeSites
) -> None:
    key = Key(namespace, "busy")
    sites.route, sites.rate = str(key), 45.0  # 45 / (0.7 x 10): 7 replicas
    settings = replace(QUICK, namespaces=(namespace,), gateway_urls=(sites.url,))
    body = resource(key.name, namespace, replicas=2, autoscaling=AUTOSCALING)
    await api.create(R1INFERENCE, namespace, body)
    async with await connect(apiserver) as own, operating(settings, own) as operation:
        await until(at_least(api, key, 7), "seven replicas", seconds=40)

        async def scaled_status() -> Json | None:
            inference = await api.get(R1INFERENCE, *key) or {}
            status = inference["status"]
            return status if status["desiredReplicas"] == 7 else None

        status = await until(scaled_status, "the status")
        assert status["mode"] == "Reactive"
        assert status["lastScale"]["to"] == 7
        conditions = {one["type"]: one for one in status["conditions"]}
        assert conditions["ScalingActive"]["status"] == "True"

        shown_decisions = await decisions(operation.server.port, key)
        risen = next(one for one in reversed(shown_decisions) if one["replicas"] > one["current"])
        assert risen["message"] == status["lastScale"]["message"], "the same words"
        assert risen["inputs"]["demand"]["requestsPerSecond"] == pytest.approx(45, rel=0.2)

        assert status["lastScale"]["seatsReserved"] > 0
        reservation = shown_decisions[-1]["seatReservations"]["Q2"]
        assert "are reserved for Q2" in reservation["message"]

        async def advised() -> bool:
            return any(one["routes"].get(str(key), {}).get("Q2") for one in sites.advice)

        await until(advised, "the gateway is told as well")

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

        async def inactive_condition() -> Json | None:
            inference = await api.get(R1INFERENCE, *key) or {}
            for one in inference.get("status", {}).get("conditions", ()):
                if one["type"] == "ScalingActive" and one["status"] == "False":
                    return dict(one)
            return None

        condition = await until(inactive_condition, "ScalingActive is False")
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
        assert question["series"] == str(key)
        assert f'inference="{key.name}"' in question["query"]
        assert 0.9 in question["levels"]
        shown_decisions = await decisions(operation.server.port, key)
        assert json.dumps(shown_decisions).count("ForecastDemand") >= 1

        async def predictive() -> bool:
            inference = await api.get(R1INFERENCE, *key) or {}
            return str(inference["status"]["mode"]) == "Predictive"

        await until(predictive, "mode Predictive")
        url = f"http://127.0.0.1:{operation.server.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            exposed = await response.text()
        labels = f'inference="{key.name}",inference_namespace="{namespace}"'
        per_metric = f'{labels},metric="RequestsPerSecond"'
        assert f'r1_operator_forecast_peak{{{per_metric},quantile="0.9"}} 40.0' in exposed
        assert f"r1_operator_demand{{{per_metric}}}" in exposed
        assert f"r1_operator_desired_replicas{{{labels}}} 5.0" in exposed
