"""A runtime process that sleeps and wakes over TCP, at both levels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import r1_runtime
from runtime_process import Server, started, until_ready

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
TEXT: dict[str, Any] = {"model": "tiny", "prompt": "A pod is", "max_tokens": 12, "temperature": 0}
KEY = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    with started(MODEL, log, "--enable-sleep-mode", "--api-key", "secret") as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url, headers=KEY) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, body: object = None) -> Any:
    async with http.post(path, json=body) as answer:
        return answer.status, await answer.read(), answer.headers


async def text(http: aiohttp.ClientSession) -> str:
    async with http.post("/v1/completions", json=TEXT) as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["choices"][0]["text"])


async def is_sleeping(http: aiohttp.ClientSession) -> bool:
    async with http.get("/is_sleeping") as answer:
        return bool((await answer.json())["is_sleeping"])


async def states(http: aiohttp.ClientSession) -> dict[str, float]:
    async with http.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found = [line for line in lines if line.startswith("vllm:engine_sleep_state{")]
    return {
        line.partition('sleep_state="')[2].partition('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in found
    }


def resident_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    anonymous = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(anonymous.split()[1]) * 1024


@pytest.mark.parametrize(("level", "state"), [(1, "weights_offloaded"), (2, "discard_all")])
async def test_asleep_refuses_requests_and_frees_memory_and_awake_answers_as_before(
    server: Server, http: aiohttp.ClientSession, level: int, state: str
) -> None:
    before = await text(http)
    awake_bytes = resident_bytes(server)
    assert (await post(http, f"/sleep?level={level}"))[0] == 200
    assert await is_sleeping(http)
    assert (await states(http))[state] == 1
    if level == 2:
        assert resident_bytes(server) < awake_bytes - 10 * 2**20  # 13 MiB of weights
    status, body, headers = await post(http, "/v1/completions", TEXT)
    assert (status, int(headers["Retry-After"]) > 0) == (503, True)
    assert b"asleep" in body
    async with http.get("/ready") as answer:
        assert (answer.status, (await answer.json())["phase"]) == (503, "Sleeping")
    async with http.get("/health") as answer:
        assert answer.status == 200
    assert (await post(http, f"/sleep?level={level}"))[0] == 200  # again
    assert (await post(http, "/wake_up"))[0] == 200
    assert (await post(http, "/wake_up"))[0] == 200
    assert not await is_sleeping(http)
    assert await states(http) == {"awake": 1, "weights_offloaded": 0, "discard_all": 0}
    assert await text(http) == before


async def test_requests_in_flight_are_aborted_or_finish_before_a_sleep(
    http: aiohttp.ClientSession,
) -> None:
    endless = TEXT | {"max_tokens": 200, "ignore_eos": True}
    for mode, status in (("wait", 200), ("abort", 503)):
        running = asyncio.create_task(post(http, "/v1/completions", endless))
        while not await in_flight(http):  # noqa: ASYNC110  (a server has no event to wait for)
            await asyncio.sleep(0.01)
        assert (await post(http, f"/sleep?mode={mode}"))[0] == 200
        assert (await running)[0] == status
        assert (await post(http, "/wake_up"))[0] == 200
    assert await text(http)


async def in_flight(http: aiohttp.ClientSession) -> int:
    async with http.get("/load") as answer:
        return int((await answer.json())["server_load"])


@pytest.mark.parametrize("query", ["level=3", "level=x", "level=", "mode=keep"])
async def test_unknown_levels_and_modes_are_refused(
    http: aiohttp.ClientSession, query: str
) -> None:
    status, body, _ = await post(http, f"/sleep?{query}")
    assert (status, query.partition("=")[0].encode() in body) == (400, True)
    assert not await is_sleeping(http)


async def test_sleeping_needs_a_key(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        for path in ("/sleep", "/wake_up"):
            assert (await post(http, path))[0] == 401
        assert not await is_sleeping(http)


async def test_a_server_without_the_option_does_not_sleep(tmp_path: Path) -> None:
    with started(MODEL, tmp_path / "log") as running:
        await until_ready(running)
        async with aiohttp.ClientSession(running.url) as http:
            status, body, _ = await post(http, "/sleep")
            assert (status, b"--enable-sleep-mode" in body) == (400, True)
            assert await text(http)
