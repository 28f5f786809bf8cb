"""The gateway on real sockets: responses to valid and invalid requests."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from r1_gateway.server import GatewayServer
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
CHAT = "/v1/chat/completions"


async def ask(
    server: GatewayServer, body: object, *, path: str = CHAT, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """POST a JSON body; status, headers, body of the answer."""
    url = f"http://127.0.0.1:{server.port}{path}"
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=json.dumps(body), headers=fields) as answer,
    ):
        lower = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, lower, await answer.read()


async def fetch(server: GatewayServer, path: str, *, admin: bool = False) -> tuple[int, Any]:
    port = server.admin_port if admin else server.port
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text.startswith("{") else text


async def test_a_completion_passes_through(open_gateway: OpenGateway, new_pod: NewPod) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    body = {"model": "chat", "messages": [{"role": "user", "content": "hé"}], "seed": 1}
    status, headers, answer = await ask(server, body, x_r1_priority="q1", x_custom="kept")
    assert status == 200
    assert json.loads(answer)["usage"] == {"completion_tokens": 3}
    assert headers["x-r1-class"] == "Q1"
    assert headers["x-r1-queue-ms"] == "0"
    assert headers["x-request-id"].startswith("r1-")
    received = pod.requests[0]
    assert received.target == CHAT
    assert received.json == body
    assert received.headers["x-custom"] == "kept"
    assert received.headers["x-request-id"] == headers["x-request-id"]
    assert "x-r1-class" not in received.headers
    assert received.headers["x-r1-priority"] == "Q1"  # the engine computes urgent prompts first


async def test_the_clients_request_id_is_forwarded(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def echo(conversation: Conversation) -> None:
        conversation.answer(b"{}", "200 OK", "X-Request-Id: engine", "connection: keep-alive")

    pod = await new_pod(echo)
    server = await open_gateway(pod)
    _, headers, _ = await ask(server, {"model": "m"}, x_request_id="mine-1")
    assert headers["x-request-id"] == "mine-1"
    assert "engine" not in str(headers)
    assert pod.requests[0].headers["x-request-id"] == "mine-1"


async def test_namespace_slash_name_reaches_the_engine_under_its_own_name(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    status, _, _ = await ask(server, {"model": "default/m", "prompt": "x"}, path="/v1/completions")
    assert status == 200
    assert pod.requests[0].json == {"model": "m", "prompt": "x"}


async def test_models_are_listed(open_gateway: OpenGateway) -> None:
    server = await open_gateway()
    status, listing = await fetch(server, "/v1/models")
    assert status == 200
    assert [model["id"] for model in listing["data"]] == ["m", "chat"]
    assert (await fetch(server, "/v1/models/chat"))[1]["owned_by"] == "default/m"
    assert (await fetch(server, "/v1/models/default%2Fm"))[0] == 200
    assert (await fetch(server, "/v1/models/other"))[0] == 404


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "words"),
    [
        ({"model": "other"}, {}, 404, "model_not_found", "GET /v1/models"),
        ({"messages": []}, {}, 400, "missing_model", "model"),
        ({"model": 7}, {}, 400, "missing_model", "model"),
        ([], {}, 400, "invalid_json", "object"),
        ({"model": "m", "stream": "yes"}, {}, 400, "bad_request", "stream"),
        ({"model": "m"}, {"x_r1_priority": "hot"}, 400, "unknown_priority", "Q1, Q2, Q3"),
        ({"model": "m"}, {"x_request_deadline_ms": "soon"}, 400, "bad_request", "milliseconds"),
        ({"model": "m"}, {"x_request_deadline_ms": "-1"}, 400, "bad_request", "positive"),
        ({"model": "m"}, {"x_request_deadline_ms": "nan"}, 400, "bad_request", "positive"),
    ],
)
async def test_an_invalid_request_gets_an_error_that_names_the_cause(
    open_gateway: OpenGateway,
    new_pod: NewPod,
    body: object,
    headers: dict[str, str],
    status: int,
    code: str,
    words: str,
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    got, _, answer = await ask(server, body, **headers)
    error = json.loads(answer)["error"]
    assert (got, error["code"]) == (status, code)
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert pod.requests == []


async def test_unknown_paths_and_methods_get_404_and_405(open_gateway: OpenGateway) -> None:
    server = await open_gateway()
    assert (await fetch(server, "/"))[0] == 404
    assert (await fetch(server, CHAT))[0] == 405
    assert (await ask(server, {}, path="/v1/models"))[0] == 405


KEYS = {
    hashlib.sha256(b"sk-batch").hexdigest(): {
        "tenant": "batch",
        "defaultClass": "Q3",
        "maxClass": "Q2",
    },
    hashlib.sha256(b"sk-plain").hexdigest(): {"tenant": "plain"},
}


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer sk-no"}, {"authorization": "x"}])
async def test_a_request_without_a_known_key_gets_401(
    open_gateway: OpenGateway, header: dict[str, str]
) -> None:
    server = await open_gateway(keys=KEYS)
    status, _, answer = await ask(server, {"model": "m"}, **header)
    assert status == 401
    assert json.loads(answer)["error"]["code"] == "invalid_api_key"
    assert (await fetch(server, "/v1/models"))[0] == 401


@pytest.mark.parametrize(
    ("key", "extra", "klass"),
    [
        ("sk-batch", {}, "Q3"),
        ("sk-batch", {"x_r1_priority": "Q1"}, "Q2"),
        ("sk-plain", {}, "Q2"),
        ("sk-plain", {"x_r1_priority": "Q1"}, "Q1"),
    ],
)
async def test_a_key_sets_the_class_and_is_not_forwarded(
    open_gateway: OpenGateway, new_pod: NewPod, key: str, extra: dict[str, str], klass: str
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod, keys=KEYS)
    status, headers, _ = await ask(server, {"model": "m"}, authorization=f"Bearer {key}", **extra)
    assert status == 200
    assert headers["x-r1-class"] == klass
    assert "authorization" not in pod.requests[0].headers


async def test_without_a_keys_file_the_engine_gets_the_key(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    await ask(server, {"model": "m"}, authorization="Bearer sk-engine")
    assert pod.requests[0].headers["authorization"] == "Bearer sk-engine"


async def test_pods_are_used_evenly_and_connections_are_reused(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pods = [await new_pod(), await new_pod()]
    server = await open_gateway(*pods)
    for _ in range(10):
        await asyncio.gather(*(ask(server, {"model": "m"}) for _ in range(4)))
    assert [len(pod.requests) for pod in pods] == [20, 20]
    assert sum(pod.connections for pod in pods) <= 8
    assert server.gateway.connections.opened == sum(pod.connections for pod in pods)


async def test_seats_are_never_exceeded_and_urgent_requests_start_first(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    order: list[str] = []
    all_here = asyncio.Event()

    async def slow(conversation: Conversation) -> None:
        order.append(conversation.request.headers["x-tag"])
        await all_here.wait()
        await asyncio.sleep(0.02)
        conversation.answer(b"{}")

    pod = await new_pod(slow)
    server = await open_gateway(pod, seatsPerReplica=1)
    waiting = []
    for tag in ("Q2", "Q3", "Q3", "Q2", "Q1"):
        waiting.append(
            asyncio.create_task(ask(server, {"model": "m"}, x_r1_priority=tag, x_tag=tag))
        )
        await until(lambda: server.gateway.busy == len(waiting))
    all_here.set()
    answers = await asyncio.gather(*waiting)
    assert [status for status, _, _ in answers] == [200] * 5
    assert order == ["Q2", "Q1", "Q2", "Q3", "Q3"]
    assert pod.most_running == 1
    assert int(answers[2][1]["x-r1-queue-ms"]) >= 40


async def test_a_full_queue_returns_retry_after(open_gateway: OpenGateway, new_pod: NewPod) -> None:
    async def hang(conversation: Conversation) -> None:
        await asyncio.sleep(3600)

    pod = await new_pod(hang)
    server = await open_gateway(
        pod, seatsPerReplica=1, classes={"Q2": {"maxQueueLength": 2, "maxQueueSeconds": 60}}
    )
    held = []
    for _ in range(3):
        held.append(asyncio.create_task(ask(server, {"model": "m"})))
        await until(lambda: server.gateway.busy == len(held))
    status, headers, answer = await ask(server, {"model": "m"})
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 60
    assert json.loads(answer)["error"]["type"] == "rate_limit_error"
    other = asyncio.create_task(ask(server, {"model": "m"}, x_r1_priority="Q1"))
    await until(lambda: server.gateway.busy == 4)  # another class still has room
    _, signals = await fetch(server, "/signals", admin=True)
    route = signals["routes"]["default/m"]
    assert route["offeredRequests"] == {"Q1": 1, "Q2": 4, "Q3": 0}
    assert route["rejected"] == {"Q1": 0, "Q2": 1, "Q3": 0}
    assert route["queued"] == {"Q1": 1, "Q2": 2, "Q3": 0}
    assert route["inFlight"] == {"Q1": 0, "Q2": 1, "Q3": 0}
    assert list(route["inFlightByEndpoint"].values()) == [1], "the operator picks victims by it"
    assert route["oldestWaitSeconds"]["Q2"] > 0
    assert (route["seats"], route["readyEndpoints"], route["queuedWithoutEndpoints"]) == (1, 1, 0)
    for task in [*held, other]:
        task.cancel()
    await asyncio.gather(*held, other, return_exceptions=True)
    await until(lambda: server.gateway.busy == 0)
    _, signals = await fetch(server, "/signals", admin=True)
    route = signals["routes"]["default/m"]
    assert route["queued"] == route["inFlight"] == {"Q1": 0, "Q2": 0, "Q3": 0}
    assert route["cancelled"] == {"Q1": 1, "Q2": 3, "Q3": 0}


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [({"x_request_deadline_ms": "50"}, 504, "deadline_exceeded"), ({}, 503, "queue_timeout")],
)
async def test_an_expired_request_gets_an_error_and_is_never_sent(
    open_gateway: OpenGateway, new_pod: NewPod, header: dict[str, str], status: int, code: str
) -> None:
    async def hang(conversation: Conversation) -> None:
        await asyncio.sleep(3600)

    pod = await new_pod(hang)
    server = await open_gateway(pod, seatsPerReplica=1, classes={"Q2": {"maxQueueSeconds": 0.1}})
    first = asyncio.create_task(ask(server, {"model": "m"}, x_r1_priority="Q1"))
    await until(lambda: len(pod.requests) > 0)
    got, _, answer = await ask(server, {"model": "m"}, **header)
    assert (got, json.loads(answer)["error"]["code"]) == (status, code)
    assert len(pod.requests) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_requests_are_queued_until_a_pod_is_ready(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(mayWake=True, seatsPerReplica=2)
    waiting = [asyncio.create_task(ask(server, {"model": "m"})) for _ in range(6)]
    await until(lambda: server.gateway.busy == 6)
    _, signals = await fetch(server, "/signals", admin=True)
    assert signals["routes"]["default/m"]["queuedWithoutEndpoints"] == 6
    assert signals["routes"]["default/m"]["readyEndpoints"] == 0

    async def slow(conversation: Conversation) -> None:
        await asyncio.sleep(0.01)
        conversation.answer(b"{}")

    pod = await new_pod(slow)
    server.gateway.set_pods("default/m", {pod.address: False})  # it starts
    await asyncio.sleep(0.02)
    assert pod.requests == []
    server.gateway.set_pods("default/m", {pod.address: True})
    assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200] * 6
    assert pod.most_running == 2


async def test_metrics_carry_the_same_numbers(open_gateway: OpenGateway, new_pod: NewPod) -> None:
    server = await open_gateway(await new_pod())
    await ask(server, {"model": "m", "stream": True}, x_r1_priority="Q1")
    await ask(server, {"model": "m", "prompt": "x" * 400, "max_tokens": 5})
    await ask(server, {"model": "no"})
    status, text = await fetch(server, "/metrics", admin=True)
    assert status == 200
    labels = 'inference="m",inference_namespace="default"'
    for line in (
        f'r1_gateway_requests_offered_total{{class="Q1",{labels}}} 1.0',
        f'r1_gateway_tokens_offered_total{{class="Q2",{labels}}} 105.0',
        f'r1_gateway_requests_total{{class="Q2",code="200",{labels}}} 1.0',
        f'r1_gateway_queue_wait_seconds_count{{class="Q2",{labels}}} 1.0',
        f'r1_gateway_time_to_first_token_seconds_count{{class="Q1",{labels}}} 1.0',
        f'r1_gateway_in_flight{{class="Q1",{labels}}} 0.0',
        f"r1_gateway_seats{{{labels}}} 4.0",
        'r1_gateway_invalid_requests_total{code="404",reason="model_not_found"} 1.0',
    ):
        assert line in text.splitlines()


async def test_signals_carry_durations_that_the_operator_reads(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    """One stream, one whole answer, one refusal: what of each is counted, by class."""
    pod = await new_pod()
    server = await open_gateway(pod)
    await ask(server, {"model": "m", "stream": True}, x_r1_priority="Q1")
    await ask(server, {"model": "m"}, x_r1_priority="Q2")
    await ask(server, {"model": "nobody's"})
    _, signals = await fetch(server, "/signals", admin=True)
    route = signals["routes"]["default/m"]
    assert set(route["timeToFirstToken"]) == {"Q1"}
    assert set(route["latency"]) == {"Q1", "Q2"}
    for histogram in (route["timeToFirstToken"]["Q1"], *route["latency"].values()):
        assert len(histogram["counts"]) == len(signals["secondsBuckets"]) + 1
        assert sum(histogram["counts"]) == 1
        assert 0 < histogram["sumSeconds"] < 60
    first, whole = route["timeToFirstToken"]["Q1"], route["latency"]["Q1"]
    assert first["sumSeconds"] <= whole["sumSeconds"]
    _, text = await fetch(server, "/metrics", admin=True)
    assert 'r1_gateway_request_duration_seconds_count{class="Q2"' in text
