"""The gateway process: start, reload of files, graceful shutdown."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from r1_gateway.options import GatewayOptions
from r1_gateway.server import GatewayServer, run
from scripted_pod import Conversation, ScriptedPod, until

OpenGateway = Callable[..., Awaitable[GatewayServer]]
NewPod = Callable[..., Awaitable[ScriptedPod]]


def write_config(path: Path, **entry: object) -> None:
    route = {"namespace": "default", "name": "m", "seatsPerReplica": 4, **entry}
    path.with_suffix(".new").write_text(json.dumps({"routes": [route]}))
    path.with_suffix(".new").replace(path)


@asynccontextmanager
async def gateway_process(
    config: Path, *flags: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int, int]]:
    """A gateway as its own process: the process, its port and its admin port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "r1_gateway", "--config", str(config), "--port=0",
        "--admin-port=0", "--host=127.0.0.1", "--admin-host=127.0.0.1", *flags,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while b"serving on port" not in (line := await process.stderr.readline()):
                assert line, "the gateway ended"
        words = line.decode().replace(",", "").split()
        yield process, int(words[-5]), int(words[-1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_sigterm_finishes_requests_in_flight_and_rejects_none_before(
    tmp_path: Path, new_pod: NewPod
) -> None:
    async def slow(conversation: Conversation) -> None:
        conversation.start_stream()
        for _ in range(10):
            conversation.chunk(b"data: x\n\n")
            await asyncio.sleep(0.1)
        conversation.end_stream()

    pod = await new_pod(slow)
    config = tmp_path / "routes.json"
    write_config(config, seatsPerReplica=1, endpoints=[pod.address])
    async with (
        gateway_process(config, "--linger-seconds=0.5", "--drain-seconds=20") as (
            process,
            port,
            admin,
        ),
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{port}/v1/chat/completions"

        async def ask() -> bytes:
            async with session.post(url, json={"model": "m", "stream": True}) as answer:
                assert answer.status == 200
                return await answer.read()

        async def ready() -> int:
            async with session.get(f"http://127.0.0.1:{admin}/readyz") as answer:
                return answer.status

        assert await ready() == 200
        running = asyncio.create_task(ask())
        await until(lambda: len(pod.requests) > 0)
        queued = asyncio.create_task(ask())
        await asyncio.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert await ready() == 503
        late = asyncio.create_task(ask())  # others have not heard of it yet
        assert [len(body) for body in await asyncio.gather(running, queued, late)] == [90, 90, 90]
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_requests_left_after_the_drain_time_are_cut_off(
    open_gateway: OpenGateway, new_pod: NewPod, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(conversation: Conversation) -> None:
        if conversation.request.json.get("stream"):
            conversation.start_stream()
        await asyncio.sleep(3600)

    pod = await new_pod(hang)
    server = await open_gateway(pod, options={"drain_seconds": 0.2})
    _, idle = await asyncio.open_connection("127.0.0.1", server.port)
    readers = []
    for body in (b'{"model":"m"}', b'{"model":"m","stream":true}'):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: m\r\n")
        writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))
        readers.append((reader, writer))
    await until(lambda: len(pod.requests) == 2)
    await asyncio.sleep(0.05)
    await server.stop()
    plain, stream = [await reader.read() for reader, _ in readers]
    assert plain.startswith(b"HTTP/1.1 503 ")
    assert stream.startswith(b"HTTP/1.1 200 ")
    assert b"gateway_stopping" in plain
    assert b"gateway_stopping" in stream
    assert not stream.endswith(b"0\r\n\r\n")
    with pytest.raises(OSError, match="refused"):
        await asyncio.open_connection("127.0.0.1", server.port)
    await until(lambda: pod.left == 2)
    assert "2 requests were cut off" in caplog.text
    for writer in (idle, *(writer for _, writer in readers)):
        writer.close()


async def test_a_client_that_never_closes_does_not_delay_the_stop(
    open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    server = await open_gateway(await new_pod(), options={"drain_seconds": 60})
    idle, half = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    half[1].write(b"POST /v1/completions HTTP/1.1\r\nhost: m\r\ncontent-length: 9\r\n\r\n{")
    await until(lambda: len(server.gateway.clients) == 2)
    half[1].write(b'"a":"b"}')
    async with asyncio.timeout(30):  # a quiet second, two of lingering, and the sweep
        await server.stop()
    assert (await half[0].readline()).startswith(b"HTTP/1.1 400 ")
    for _, writer in (idle, half):
        writer.close()


async def test_a_changed_config_is_applied_and_an_invalid_one_is_not(
    tmp_path: Path, open_gateway: OpenGateway, new_pod: NewPod
) -> None:
    pod = await new_pod()
    server = await open_gateway(pod)
    config = tmp_path / "routes-0.json"
    gateway = server.gateway

    write_config(config, models=["second"], endpoints=[pod.address])
    await until(lambda: set(gateway.models.routes) == {"default/m", "m", "second"})
    write_config(config, seatsPerReplica=0)
    metrics = f"http://127.0.0.1:{server.admin_port}/metrics"
    async with aiohttp.ClientSession() as session:
        for _ in range(100):
            async with session.get(metrics) as answer:
                if "r1_gateway_invalid_configurations_total 1.0" in await answer.text():
                    break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the bad file was not counted")
    assert "second" in gateway.models.routes
    assert gateway.routes["default/m"].admission.pool.ready == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"routes": [{"namespace": "a", "name": "b"}]}', "routes[0]: seatsPerReplica must be"),
        ('{"routes": [', "Expecting value"),
        (None, "No such file"),
    ],
)
async def test_an_invalid_config_prevents_the_start(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    text: str | None,
    words: str,
) -> None:
    config = tmp_path / "c.json"
    if text is not None:
        write_text(config, text)
    assert await run(GatewayOptions(config=config, port=0, admin_port=0)) == 2
    assert words in caplog.text
    assert str(config) in capsys.readouterr().err


async def test_a_start_without_cluster_and_file_names_the_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert await run(GatewayOptions(port=0, admin_port=0)) == 2
    assert "--config FILE" in capsys.readouterr().err


def write_text(path: Path, text: str) -> None:
    path.write_text(text)
