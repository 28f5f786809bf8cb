"""Odd requests to a served model: each gets its response, and nothing of them remains."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import r1_runtime
from odd_requests import BASE, CHATS, ODD_REQUESTS, OddRequest
from runtime_process import Server, started, until_ready

MODEL = Path(r1_runtime.__path__[0]) / "models_bundled" / "demo"
GREEDY = BASE[CHATS] | {"max_tokens": 8, "temperature": 0}
SOURCES = Path(r1_runtime.__path__[0]).parents[1]
# What an error must not show: code, paths, objects.
LEAKS = (
    "Traceback",
    'File "',
    "site-packages",
    "r1_runtime",
    " at 0x",
    str(Path.home()),
    str(SOURCES),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    options = ("--max-num-seqs", "4", "--max-waiting", "8", "--tool-call-parser", "hermes")
    with started(MODEL, log, *options) as running:
        asyncio.run(until_ready(running))
        yield running
        running.terminate()
        assert running.process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        assert "ERROR" not in log.read_text()


async def send(http: aiohttp.ClientSession, odd: OddRequest) -> tuple[int, str, str]:
    data = None if odd.method == "GET" else io.BytesIO(odd.body)
    async with http.request(
        odd.method, odd.path, data=data, headers=odd.headers, skip_auto_headers=["Content-Type"]
    ) as answer:
        return answer.status, answer.content_type, await answer.text()


def problems(odd: OddRequest, status: int, kind: str, text: str) -> list[str]:
    """What is wrong with a response."""
    found = [] if status == odd.status else [f"status {status}, not {odd.status}"]
    if kind != "application/json":
        return [*found, f"content type {kind}"]
    body = json.loads(text)
    if status == 200:
        return found
    error = body.get("error")
    if list(body) != ["error"] or set(error) != {"message", "type", "param", "code"}:
        return [*found, "no error object of OpenAI"]
    if not error["message"] or not error["type"]:
        found.append("no message or type")
    if error["param"] != odd.param:
        found.append(f"param {error['param']!r}, not {odd.param!r}")
    if odd.hint not in error["message"]:
        found.append(f"the message lacks {odd.hint!r}")
    found += [f"shows {leak!r}" for leak in LEAKS if leak in text]
    return found + ([f"{len(text)} characters"] if len(text) > 2000 else [])


async def metric(http: aiohttp.ClientSession, name: str) -> float:
    async with http.get("/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{"))


def resident(server: Server) -> int:
    """Resident memory in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def test_the_table_has_at_least_107_requests_of_every_endpoint() -> None:
    assert len(ODD_REQUESTS) >= 107
    assert {odd.path for odd in ODD_REQUESTS} >= set(BASE)
    assert len({odd.name for odd in ODD_REQUESTS}) == len(ODD_REQUESTS)


async def test_odd_requests_get_errors_that_name_field_and_fix(server: Server) -> None:
    wrong: dict[str, Any] = {}
    async with aiohttp.ClientSession(server.url) as http:
        for odd in ODD_REQUESTS:
            response = await send(http, odd)
            found = problems(odd, *response)
            if found:
                wrong[odd.name] = (*found, response[2][:300])
    assert not wrong, json.dumps(wrong, indent=1)


async def test_odd_requests_leave_no_seat_block_or_memory_in_use(server: Server) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        async with http.post(CHATS, json=GREEDY) as answer:
            before = await answer.json()
        for odd in ODD_REQUESTS:  # caches fill
            await send(http, odd)
        used = resident(server)
        for _ in range(2):
            for odd in ODD_REQUESTS:
                await send(http, odd)
        grown = resident(server) - used
        async with http.post(CHATS, json=GREEDY) as answer:
            after = await answer.json()
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
            assert await metric(http, f"vllm:{name}") == 0, name
        async with http.get("/load") as answer:
            assert (await answer.json())["server_load"] == 0
    assert after["choices"] == before["choices"]
    assert grown < 32, f"resident memory grew by {grown} MiB"


async def test_odd_requests_at_once_and_other_streams_do_not_disturb_each_other(
    server: Server,
) -> None:
    wanted = GREEDY | {"max_tokens": 200, "ignore_eos": True, "stream": True}

    async def streamed(http: aiohttp.ClientSession) -> str:
        async with http.post(CHATS, json=wanted) as answer:
            lines = [line async for line in answer.content if line.startswith(b"data: {")]
        events = [json.loads(line.removeprefix(b"data: ")) for line in lines]
        return "".join(event["choices"][0]["delta"].get("content", "") for event in events)

    async with aiohttp.ClientSession(server.url) as http:
        alone = await streamed(http)
        stream = asyncio.create_task(streamed(http))
        invalid = [odd for odd in ODD_REQUESTS if odd.status != 200]
        for odd in invalid[: len(invalid) // 2]:
            assert problems(odd, *(await send(http, odd))) == []
        assert await stream == alone


async def test_a_connection_outlives_odd_requests_or_announces_its_end(server: Server) -> None:
    """A client that reuses a connection must not find it closed."""
    address = server.url.removeprefix("http://").split(":")
    for odd in ODD_REQUESTS:
        if odd.method != "POST" or len(odd.body) > 2**16:
            continue
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        lines = [f"POST {odd.path} HTTP/1.1", "Host: x", f"Content-Length: {len(odd.body)}"]
        lines += [f"{name}: {value}" for name, value in odd.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + odd.body)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).lower()
        if b"connection: close" not in head:
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 60), odd.name
        writer.close()
