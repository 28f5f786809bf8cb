"""Memory, logs and pages of the gateway: bounded, whatever clients, pods and readers do."""

import asyncio
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from r1_common.contracts.route import RouteSpec
from r1_gateway.http.completion_request import parse_completion
from r1_gateway.server import GatewayServer
from r1_gateway.telemetry.metrics import MetricsPage
from r1_gateway.telemetry.process_metrics import ProcessStats
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]
MIB = 1 << 20
PROMPT = b'{"model":"m","stream":true,"prompt":"' + b"x" * (4 * MIB) + b'"}'
HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n"


def write_config(path: Path, **entry: object) -> None:
    route = {"namespace": "default", "name": "m", "seatsPerReplica": 4, **entry}
    path.write_text(json.dumps({"routes": [route]}))


@asynccontextmanager
async def gateway_process(
    config: Path, *flags: str, read_log: bool = True
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    """A gateway as its own process: the process, its port and its admin port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "r1_gateway", "--config", str(config), "--port=0",
        "--admin-port=0", "--host=127.0.0.1", "--admin-host=127.0.0.1", *flags,
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"serving on port" not in (line := await process.stderr.readline()):
                assert line, "the gateway ended"
        words = line.decode().replace(",", "").split()
        if not read_log:
            process.stderr._transport.pause_reading()  # type: ignore[attr-defined]
        yield process, int(words[-5]), int(words[-1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]
        await asyncio.sleep(0)


def rss_mib(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) / 1024


async def send_prompts(
    port: int, count: int
) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    clients = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD % len(PROMPT) + PROMPT)
        await writer.drain()
        clients.append((reader, writer))
    return clients


async def test_a_live_stream_retains_no_prompt_and_an_ended_request_no_bytes(
    tmp_path: Path, new_pod: NewPod
) -> None:
    async def stream(conversation: Conversation) -> None:
        conversation.start_stream()
        conversation.chunk(b"data: x\n\n")
        await asyncio.sleep(3600)

    pod = await new_pod(stream)
    config = tmp_path / "routes.json"
    write_config(config, seatsPerReplica=16, endpoints=[pod.address])
    async with gateway_process(config, "--linger-seconds=0") as (process, port, _):
        before = rss_mib(process.pid)
        clients = await send_prompts(port, 16)
        for reader, _ in clients:
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        await asyncio.sleep(0.3)
        assert rss_mib(process.pid) - before < 32  # of 64 MiB that were sent
        queued = await send_prompts(port, 24)
        await asyncio.sleep(0.3)
        for _, writer in (*queued, *clients):
            writer.close()
        await until(lambda: pod.left >= 16)
        await asyncio.sleep(0.5)
        assert rss_mib(process.pid) - before < 48  # of 96 MiB that were queued


async def test_requests_beyond_the_byte_budget_get_503_and_the_budget_returns(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    release = asyncio.Event()

    async def wait(conversation: Conversation) -> None:
        await release.wait()
        conversation.answer(b"{}")

    pod = await new_pod(wait)
    server = await open_gateway(
        pod, seatsPerReplica=1, options={"max_buffered_bytes": 10 * MIB, "max_body_bytes": 8 * MIB}
    )
    budget = server.gateway.budget
    streams = await send_prompts(server.port, 2)
    await until(lambda: budget.used > 8 * MIB)
    declared, undeclared = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", server.port) for _ in range(2))
    )
    declared[1].write(HEAD % len(PROMPT))
    chunk = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
    undeclared[1].write(
        HEAD.replace(b"content-length: %d", b"transfer-encoding: chunked") + chunk * 3
    )
    for reader, writer in (declared, undeclared):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: " in head
        assert json.loads(await reader.read())["error"]["code"] == "gateway_overloaded"
        writer.close()
    assert budget.rejected == 2
    release.set()
    for reader, writer in streams:
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
    await until(lambda: budget.used == 0)


async def test_the_budget_is_returned_however_a_request_ends(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    async def die(conversation: Conversation) -> None:
        conversation.die()

    server = await open_gateway(await new_pod(die), classes={"Q2": {"maxQueueSeconds": 0.1}})
    big = b'{"model":"m","prompt":"' + b"x" * 20_000 + b'"}'
    bodies = (big, big.replace(b'"m"', b'"unknown"'), big[:-1], big[:-5])
    for body in bodies:
        for end in (True, False):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(HEAD % len(big) + body)
            if end and len(body) >= len(big):
                await reader.readline()
            else:
                await asyncio.sleep(0.05)
            writer.close()
    one = HEAD % len(big) + big
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(one * 3 + one[:-10])
    await reader.readline()
    writer.close()
    await until(lambda: not server.gateway.clients)
    await until(lambda: server.gateway.budget.used == 0)


async def test_unread_logs_block_no_request(tmp_path: Path, new_pod: NewPod) -> None:
    pod = await new_pod()
    config = tmp_path / "routes.json"
    write_config(config, endpoints=[pod.address])
    flags = ("--access-log", "--log-level=debug", "--linger-seconds=0", "--drain-seconds=1")
    async with (
        gateway_process(config, *flags, read_log=False) as (process, port, admin),
        aiohttp.ClientSession() as session,
    ):
        assert process.stdout is not None
        process.stdout._transport.pause_reading()  # type: ignore[attr-defined]
        url = f"http://127.0.0.1:{port}/v1/completions"

        async def ask_often(model: str, count: int) -> None:
            for _ in range(count):
                async with session.post(
                    url, json={"model": model}, headers={"x-request-id": "i" * 120}
                ) as answer:
                    assert answer.status == (200 if model == "m" else 404)

        dropped = 0.0
        async with asyncio.timeout(120):
            while dropped == 0.0:
                await asyncio.gather(*(ask_often(model, 100) for model in ("m", "n", "n", "m")))
                async with session.get(f"http://127.0.0.1:{admin}/healthz") as answer:
                    assert answer.status == 200
                async with session.get(f"http://127.0.0.1:{admin}/metrics") as answer:
                    text = await answer.text()
                dropped = sum(
                    float(n) for n in re.findall(r'lines_dropped_total{log="\w+"} ([\d.e+]+)', text)
                )
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0


async def test_the_access_log_includes_rejected_requests(tmp_path: Path, new_pod: NewPod) -> None:
    pod = await new_pod()
    config = tmp_path / "routes.json"
    write_config(config, endpoints=[pod.address])
    async with gateway_process(config, "--access-log", "--linger-seconds=0") as (process, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model":"m"}'
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: m\r\nx-request-id: a\r\n")
        writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
        writer.write(b"GET /nothing HTTP/1.1\r\nhost: m\r\nx-request-id: b\r\n\r\n")
        writer.write(b"GET / HTTP/1.1\r\nx-request-id: c\r\n\r\n")
        answers = await reader.read()
        assert answers.count(b"x-request-id: ") == 3
        writer.close()
        assert process.stdout is not None
        lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
        assert [(line["request"], line["status"]) for line in lines] == [
            ("a", 200), ("b", 404), ("c", 400),
        ]  # fmt: skip


async def longest_gap(work: Awaitable[object]) -> float:
    """Longest time that the loop did nothing else while ``work`` ran, in seconds."""
    task = asyncio.ensure_future(work)
    longest, last = 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    await task
    return longest


async def test_metrics_of_many_routes_are_built_in_slices(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod())
    gateway = server.gateway
    gateway.set_routes(RouteSpec("default", f"r{n}", (f"r{n}",), 4) for n in range(400))
    for route in gateway.routes.values():
        for histograms in (
            route.stats.queue_wait,
            route.stats.time_to_first_token,
            route.stats.latency,
        ):
            for histogram in histograms:
                for at in range(len(histogram.counts)):
                    histogram.counts[at] = at
    page = MetricsPage(gateway, ProcessStats())
    lines = (await page.render()).count(b"\n")
    assert lines > 70_000
    assert await longest_gap(page.render()) < 0.25  # 1.7 s in one piece
    first, second = await asyncio.gather(page.render(), page.render())
    assert first is second


def test_a_large_body_of_tiny_values_is_read_without_objects() -> None:
    body = b'{"x":[' + b"[]," * (2 * MIB) + b'[]],"model":"m"}'
    began = time.process_time()
    assert parse_completion(body).model == "m"
    assert time.process_time() - began < 1.0  # 1.3 s as lists on an idle machine, 0.06 s so


async def test_a_shortage_of_descriptors_counts_against_no_pod(
    tmp_path: Path, new_pod: NewPod
) -> None:
    pod = await new_pod()
    config = tmp_path / "routes.json"
    write_config(config, endpoints=[pod.address])
    async with gateway_process(config, "--linger-seconds=0", "--drain-seconds=0") as (
        process,
        port,
        admin,
    ):
        admin_reader, admin_writer = await asyncio.open_connection("127.0.0.1", admin)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.2)
        taken = {int(name) for name in os.listdir(f"/proc/{process.pid}/fd")}
        free = min(set(range(len(taken) + 1)) - taken)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free, 1000))
        body = b'{"model":"m"}'
        writer.write(HEAD % len(body) + body)
        async with asyncio.timeout(20):
            assert await reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
            assert b"gateway_overloaded" in await reader.read(2000)
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (1000, 1000))
        writer.write(HEAD % len(body) + body)
        async with asyncio.timeout(20):
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        admin_writer.write(b"GET /metrics HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n")
        text = await admin_reader.read()
        assert b"r1_gateway_retries_total{" not in text
        writer.close()
        admin_writer.close()


async def test_no_request_of_a_keep_alive_client_is_lost_by_a_stop(
    tmp_path: Path, new_pod: NewPod
) -> None:
    async def brief(conversation: Conversation) -> None:
        await asyncio.sleep(0.005)
        conversation.answer(b"{}")

    pod = await new_pod(brief)
    config = tmp_path / "routes.json"
    write_config(config, seatsPerReplica=64, endpoints=[pod.address])
    lost: list[str] = []
    served = closed = 0

    async def client(port: int, stopped: asyncio.Event, pause: float) -> None:
        nonlocal served, closed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model":"m"}'
        while True:
            try:
                writer.write(HEAD % len(body) + body)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
            except (OSError, asyncio.IncompleteReadError) as error:
                lost.append(repr(error))
                return
            assert head.startswith(b"HTTP/1.1 200 ")
            served += 1
            if b"connection: close" in head:
                closed += 1
                assert stopped.is_set()
                writer.close()
                return
            await asyncio.sleep(pause)

    async with gateway_process(config, "--linger-seconds=0.3", "--drain-seconds=20") as (
        process,
        port,
        _,
    ):
        stopped = asyncio.Event()
        clients = [
            asyncio.create_task(client(port, stopped, pause))
            for pause in (0.0, 0.001, 0.05, 0.5)
            for _ in range(10)
        ]
        await asyncio.sleep(0.7)
        stopped.set()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await asyncio.gather(*clients)
            assert await process.wait() == 0
    assert lost == []
    assert closed == 40
    assert served > 100
