"""Tenants through real sockets: fair share, classes, models, limits, metrics and the access log."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway_process import gateway_process
from r1_gateway.server import GatewayServer
from redis_process import REDIS, free_port, redis_process
from scripted_pod import Conversation, ScriptedPod

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def keys_of(**tenants: dict[str, Any]) -> dict[str, Any]:
    """A keys file with the key ``sk-NAME`` for each tenant."""
    return {
        "tenants": tenants,
        "keys": {digest(f"sk-{name}"): {"tenant": name, "name": f"{name}-1"} for name in tenants},
    }


async def post(
    session: aiohttp.ClientSession, port: int, tenant: str, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    async with session.post(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json={"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10},
        headers={"authorization": f"Bearer sk-{tenant}", **headers},
    ) as response:
        return (
            response.status,
            await response.json(),
            {name.lower(): value for name, value in response.headers.items()},
        )


async def answer_after_20_ms(conversation: Conversation) -> None:
    await asyncio.sleep(0.02)
    conversation.answer(b'{"usage": {"prompt_tokens": 10, "completion_tokens": 10}}')


async def test_ten_times_the_load_of_one_tenant_leaves_the_others_their_share(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    names = [f"t{n}" for n in range(5)]
    pod = await new_pod(answer_after_20_ms)
    classes = {"Q2": {"maxQueueLength": 20}}
    server = await open_gateway(
        pod, keys=keys_of(**{name: {} for name in names}), classes=classes, seatsPerReplica=4
    )
    served: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    end = asyncio.get_running_loop().time() + 5.0

    async def client(session: aiohttp.ClientSession, name: str) -> None:
        while asyncio.get_running_loop().time() < end:
            status, _, _ = await post(session, server.port, name)
            statuses[status] += 1
            if status == 200:
                served[name] += 1
            else:
                await asyncio.sleep(0.05)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        clients = [client(session, name) for name in names for _ in range(3)]
        clients += [client(session, "t0") for _ in range(27)]
        await asyncio.gather(*clients)
    assert statuses.keys() <= {200, 429}, statuses
    total, squares = sum(served.values()), sum(count * count for count in served.values())
    assert total**2 / (len(names) * squares) >= 0.98, served


async def test_a_class_above_the_tenants_is_lowered_and_the_response_names_it(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod, keys=keys_of(a={"maxClass": "Q3"}))
    async with aiohttp.ClientSession() as session:
        status, _, headers = await post(session, server.port, "a", **{"x-r1-priority": "Q1"})
        assert (status, headers["x-r1-class"], headers["x-r1-requested-class"]) == (200, "Q3", "Q1")
        _, _, headers = await post(session, server.port, "a", **{"x-r1-priority": "Q3"})
        assert "x-r1-requested-class" not in headers
    assert [request.headers["x-r1-priority"] for request in pod.requests] == ["Q3", "Q3"]


async def test_a_tenant_sees_and_uses_its_models_only(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(
        await new_pod(), keys=keys_of(a={"models": ["chat"]}, b={"models": ["x"]})
    )
    base = f"http://127.0.0.1:{server.port}/v1/models"
    async with aiohttp.ClientSession() as session:
        for tenant, listed, status in (("a", {"m", "chat"}, 200), ("b", set(), 403)):
            headers = {"authorization": f"Bearer sk-{tenant}"}
            async with session.get(base, headers=headers) as response:
                assert {each["id"] for each in (await response.json())["data"]} == listed
            code, document, _ = await post(session, server.port, tenant)
            assert code == status
            if status == 403:
                assert document["error"]["code"] == "model_not_allowed"


async def test_a_limit_is_a_429_that_the_openai_client_understands(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    keys = keys_of(a={"limits": {"requestsPerMinute": 2, "tokensPerMinute": 100_000}}, b={})
    server = await open_gateway(await new_pod(), keys=keys)
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="sk-a", max_retries=0
    ) as client:
        raw = client.chat.completions.with_raw_response
        ask = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        first = await raw.create(**ask)  # type: ignore[call-overload]
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        await raw.create(**ask)  # type: ignore[call-overload]
        with pytest.raises(openai.RateLimitError) as refused:
            await raw.create(**ask)  # type: ignore[call-overload]
    assert refused.value.code == "rate_limit_exceeded"
    assert "requestsPerMinute" in refused.value.message
    headers = refused.value.response.headers
    assert headers["retry-after"] == "30"
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    async with aiohttp.ClientSession() as session:
        status, _, given = await post(session, server.port, "b")
        assert status == 200
        assert not any(name.lower().startswith("x-ratelimit") for name in given)
        async with session.get(f"http://127.0.0.1:{server.admin_port}/metrics") as response:
            page = await response.text()
    assert 'r1_gateway_tenant_limited_total{tenant="a",limit="requestsPerMinute"} 1.0' in page
    assert 'r1_gateway_invalid_requests_total{code="429",reason="rate_limit_exceeded"} 1.0' in page


async def test_a_request_that_cannot_meet_its_deadline_is_refused_at_once(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def slow(conversation: Conversation) -> None:
        await asyncio.sleep(0.1)
        conversation.answer(b"{}")

    server = await open_gateway(await new_pod(slow), keys=keys_of(a={}), seatsPerReplica=1)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for _ in range(8):
            await post(session, server.port, "a")
        waiting = [asyncio.create_task(post(session, server.port, "a")) for _ in range(20)]
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        late = {"x-request-deadline-ms": "300"}
        status, document, headers = await post(session, server.port, "a", **late)
        assert asyncio.get_running_loop().time() - began < 0.25
        assert (status, document["error"]["code"]) == (503, "deadline_unreachable")
        assert 1 <= int(headers["retry-after"]) <= 3
        assert {status for status, _, _ in await asyncio.gather(*waiting)} == {200}


async def test_a_reload_of_the_keys_drops_no_request(
    open_gateway: OpenGateway, new_pod: NewPod, tmp_path: Path
) -> None:
    async def slow(conversation: Conversation) -> None:
        await asyncio.sleep(1.5)
        conversation.answer(b"{}")

    server = await open_gateway(await new_pod(slow), keys=keys_of(a={}), seatsPerReplica=1)
    async with aiohttp.ClientSession() as session:
        running = [asyncio.create_task(post(session, server.port, "a")) for _ in range(2)]
        await asyncio.sleep(0.2)
        document = keys_of(b={})
        document["keys"]["not a digest"] = {"tenant": "c"}
        (tmp_path / "keys.json").write_text(json.dumps(document))
        async with asyncio.timeout(10):
            while (await post(session, server.port, "a"))[0] != 401:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.1)
        assert (await post(session, server.port, "b"))[0] == 200
        assert {status for status, _, _ in await asyncio.gather(*running)} == {200}
        async with session.get(f"http://127.0.0.1:{server.admin_port}/metrics") as response:
            assert "r1_gateway_invalid_configurations_total 1.0" in await response.text()


async def test_the_access_log_has_the_tenant_the_cause_and_the_tokens(
    tmp_path: Path, new_pod: NewPod
) -> None:
    pod = await new_pod(answer_after_20_ms)
    keys = tmp_path / "keys.json"
    document = keys_of(a={"limits": {"requestsPerMinute": 1}})
    document["prices"] = {"*": {"input": 1e6, "output": 2e6}}
    keys.write_text(json.dumps(document))
    log = tmp_path / "access.log"
    flags = ("--access-log", f"--keys-file={keys}")
    async with (
        gateway_process(tmp_path, pod.address, flags=flags, output=log) as (port, admin),
        aiohttp.ClientSession() as session,
    ):
        assert (await post(session, port, "a"))[0] == 200
        assert (await post(session, port, "a"))[0] == 429
        async with asyncio.timeout(10):
            while log.read_text().count("\n") < 2:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.05)
        async with session.get(f"http://127.0.0.1:{admin}/metrics") as response:
            page = await response.text()
    served, limited = map(json.loads, log.read_text().splitlines())
    assert served["tenant"] == limited["tenant"] == "a"
    assert served["key"] == limited["key"] == "a-1"
    assert (served["cause"], limited["cause"]) == ("completed", "rate_limit_exceeded")
    assert (served["inputTokens"], served["outputTokens"]) == (10, 10)
    assert (served["pod"], served["attempts"], served["class"]) == (pod.address, 1, "Q2")
    assert 'r1_gateway_tenant_output_tokens_total{tenant="a",class="Q2"} 10.0' in page
    assert 'r1_gateway_tenant_cost_total{tenant="a"} 30.0' in page
    assert 'r1_gateway_tenant_requests_total{tenant="a",class="Q2",code="200"} 1.0' in page


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed: apt-get install it")
async def test_two_gateway_processes_share_a_limit_in_redis_and_live_without_it(
    tmp_path: Path, new_pod: NewPod
) -> None:
    pod = await new_pod()
    keys = tmp_path / "keys.json"
    limits = {"limits": {"tokensPerDay": 2000}}
    keys.write_text(json.dumps(keys_of(a=limits, b=limits, c=limits)))
    redis_port = free_port()
    flags = (f"--keys-file={keys}", f"--redis=redis://127.0.0.1:{redis_port}/0")
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()

    async def spend(session: aiohttp.ClientSession, tenant: str, *ports: int) -> int:
        """Requests of about 12 tokens until the first 429."""
        for number in range(1000):
            status, document, _ = await post(session, ports[number % len(ports)], tenant)
            if status == 429:
                assert "tokensPerDay" in document["error"]["message"]
                return number
            assert status == 200
            await asyncio.sleep(0.02)
        return 1000

    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        redis = await stack.enter_async_context(AsyncExitStack())
        await redis.enter_async_context(redis_process(tmp_path, redis_port))
        one, _ = await stack.enter_async_context(
            gateway_process(tmp_path / "one", pod.address, flags=flags)
        )
        second = await stack.enter_async_context(AsyncExitStack())
        two, admin = await second.enter_async_context(
            gateway_process(tmp_path / "two", pod.address, flags=flags)
        )
        both = await spend(session, "a", one, two)
        alone = await spend(session, "b", one)
        assert both == pytest.approx(alone, rel=0.15), "two gateways give one limit, not two"

        await second.aclose()  # a restart: the new process continues the day
        three, admin = await stack.enter_async_context(
            gateway_process(tmp_path / "three", pod.address, flags=flags)
        )
        await post(session, three, "b")
        await asyncio.sleep(1.0)
        assert (await post(session, three, "b"))[0] == 429

        await redis.aclose()  # Redis dies: requests go on, and the metric shows it
        began = asyncio.get_running_loop().time()
        assert {(await post(session, three, "c"))[0] for _ in range(20)} == {200}
        assert asyncio.get_running_loop().time() - began < 5.0
        async with asyncio.timeout(20):
            while True:
                async with session.get(f"http://127.0.0.1:{admin}/metrics") as response:
                    if "r1_gateway_redis_reachable 0.0" in await response.text():
                        break
                await post(session, three, "c")
                await asyncio.sleep(0.1)
