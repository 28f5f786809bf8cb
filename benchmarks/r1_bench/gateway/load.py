"""Both ends of the gateway benchmark: a model pod that needs little CPU, and clients that measure.

Run as separate processes (``python -m r1_bench.gateway.load pod|streams|overload ...``), so that
neither shares a core with the proxy.  Results are JSON on standard output.
"""

import argparse
import asyncio
import heapq
import json
import random
import time
from collections import deque
from typing import ClassVar, cast

import uvloop

RESPONSE_BYTES = 260
CHUNK_BYTES = 145
CHUNKS = 50
CHUNK_SECONDS = 0.02
PROMPT_BYTES = 1000


def request_bytes(stream: bool, klass: str = "Q2") -> bytes:
    """A completion request of about 1.1 kB."""
    message = {"role": "user", "content": "x" * PROMPT_BYTES}
    body = json.dumps({"model": "m", "stream": stream, "messages": [message]}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"x-r1-priority: {klass}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _response() -> bytes:
    body = json.dumps({"object": "chat.completion", "text": "x" * (RESPONSE_BYTES - 40)}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


RESPONSE = _response()
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
EVENT_START = b'data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"'
EVENT_END = b'"}}]}\n\n'
EVENT = EVENT_START + b"x" * (CHUNK_BYTES - len(EVENT_START + EVENT_END)) + EVENT_END
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
END = b"0\r\n\r\n"


class BenchmarkPod(asyncio.Protocol):
    """Responds at once, streams at a fixed rate, or (with slots) serves that many at a time, in order."""

    slots = 0
    service_seconds = 0.0
    busy = 0
    waiting: ClassVar[deque["BenchmarkPod"]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""
        self.beat = 0
        self.gone = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return
        streamed = b'"stream": true' in self.buffer
        self.buffer = b""
        if streamed:
            self.transport.write(STREAM_HEAD)
            self.beat = 0
            self.next_beat = asyncio.get_running_loop().time() + CHUNK_SECONDS * random.random()  # noqa: S311
            asyncio.get_running_loop().call_at(self.next_beat, self.stream)
        elif BenchmarkPod.slots:
            if BenchmarkPod.busy < BenchmarkPod.slots:
                self.serve()
            else:
                BenchmarkPod.waiting.append(self)
        else:
            self.transport.write(RESPONSE)

    def stream(self) -> None:
        if self.gone:
            return
        self.beat += 1
        last = self.beat == CHUNKS
        self.transport.write(CHUNK + END if last else CHUNK)
        if not last:
            self.next_beat += CHUNK_SECONDS
            asyncio.get_running_loop().call_at(self.next_beat, self.stream)

    def serve(self) -> None:
        BenchmarkPod.busy += 1
        asyncio.get_running_loop().call_later(BenchmarkPod.service_seconds, self.served)

    def served(self) -> None:
        BenchmarkPod.busy -= 1
        if not self.gone:
            self.transport.write(RESPONSE)
        while BenchmarkPod.waiting and BenchmarkPod.busy < BenchmarkPod.slots:
            following = BenchmarkPod.waiting.popleft()
            if not following.gone:
                following.serve()


async def run_pod(port: int, slots: int, service_ms: float) -> None:
    BenchmarkPod.slots, BenchmarkPod.service_seconds = slots, service_ms / 1000
    loop = asyncio.get_running_loop()
    server = await loop.create_server(BenchmarkPod, "127.0.0.1", port, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


class LoadClient(asyncio.Protocol):
    """A keep-alive client connection: one request at a time, bytes counted on arrival."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.done: asyncio.Future[None] | None = None
        self.first_byte_at = 0.0
        self.events = 0
        self.streamed = False
        self.buffer = b""

    def send(self, request: bytes, streamed: bool) -> asyncio.Future[None]:
        self.first_byte_at, self.streamed, self.buffer = 0.0, streamed, b""
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.done

    def data_received(self, data: bytes) -> None:
        if self.streamed:
            events = data.count(b"data: ")
            self.events += events
            if events and not self.first_byte_at:
                self.first_byte_at = time.perf_counter()
            over = data.endswith(END)
        else:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            over = end > 0 and len(self.buffer) >= end + 4 + len(RESPONSE.split(b"\r\n\r\n")[1])
        if over and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(ConnectionError("the proxy closed the connection"))


async def connect(port: int) -> LoadClient:
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(LoadClient, "127.0.0.1", port)
    return caller


def quantile(values: list[float], level: float) -> float:
    """Nearest-rank quantile in the values' unit.

    Raises:
        RuntimeError: there are no values, because the run was too short for this machine.
    """
    if not values:
        raise RuntimeError("no request finished: raise --seconds")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


async def run_streams(port: int, count: int, seconds: float) -> dict[str, object]:
    """``count`` streams at a time, again and again; chunks and times to first chunk (seconds)."""
    request = request_bytes(stream=True)
    callers = [await connect(port) for _ in range(count)]
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def one(caller: LoadClient) -> None:
        await asyncio.sleep(random.random() * 0.5)  # noqa: S311
        while time.perf_counter() < end:
            begun = time.perf_counter()
            await caller.send(request, streamed=True)
            waits.append(caller.first_byte_at - begun)

    await asyncio.gather(*(one(caller) for caller in callers))
    return {
        "chunks": sum(caller.events for caller in callers),
        "p50": quantile(waits, 0.5),
        "p99": quantile(waits, 0.99),
    }


async def run_overload(port: int, seconds: float, classes: bool) -> dict[str, object]:
    """Q1 100/s and Q2 200/s on open loop, Q3 from 300 closed-loop clients; latencies in seconds.

    Without ``classes`` all requests are Q2: first come, first served.
    """
    latencies: dict[str, list[float]] = {"Q1": [], "Q2": [], "Q3": []}
    warm = time.perf_counter() + seconds * 0.2
    end = time.perf_counter() + seconds
    idle: list[LoadClient] = [await connect(port) for _ in range(64)]

    async def measure(name: str, caller: LoadClient) -> None:
        begun = time.perf_counter()
        request = request_bytes(False, name if classes else "Q2")
        await caller.send(request, streamed=False)
        if warm <= begun and time.perf_counter() <= end:
            latencies[name].append(time.perf_counter() - begun)

    async def open_loop(name: str) -> None:
        caller = idle.pop() if idle else await connect(port)
        try:
            await measure(name, caller)
            idle.append(caller)
        except ConnectionError:
            return

    async def closed_loop() -> None:
        caller = await connect(port)
        while time.perf_counter() < end:
            await measure("Q3", caller)

    background = [asyncio.create_task(closed_loop()) for _ in range(300)]
    arrivals = [(time.perf_counter(), "Q1", 1 / 100), (time.perf_counter(), "Q2", 1 / 200)]
    heapq.heapify(arrivals)
    while arrivals[0][0] < end:
        at, name, gap = arrivals[0]
        if (delay := at - time.perf_counter()) > 0:
            await asyncio.sleep(delay)
        background.append(asyncio.create_task(open_loop(name)))
        heapq.heapreplace(arrivals, (at + gap, name, gap))
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    results: dict[str, object] = {}
    for name, values in latencies.items():
        results[name] = {
            "p50": quantile(values, 0.5) if values else None,
            "p99": quantile(values, 0.99) if values else None,
            "perSecond": len(values) / (seconds * 0.8),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m r1_bench.gateway.load", description=__doc__)
    parser.add_argument("what", choices=["pod", "streams", "overload"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--service-ms", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--fifo", action="store_true")
    options = parser.parse_args()
    if options.what == "pod":
        uvloop.run(run_pod(options.port, options.slots, options.service_ms))
        return

    async def run() -> dict[str, object]:
        if options.what == "streams":
            return await run_streams(options.port, options.count, options.seconds)
        return await run_overload(options.port, options.seconds, not options.fifo)

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
