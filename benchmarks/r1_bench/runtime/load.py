"""Streaming clients of one server: fixed numbers of prompt and output tokens per request."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
import numpy as np

from r1_bench.runtime.servers import Server

GREEDY = {"temperature": 0.0}
# llama.cpp's server has top_k 40 and min_p 0.05 unless a request says otherwise; ours has neither.
SAMPLED = {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "min_p": 0.0}
SAMPLED_TOP_K = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05}


@dataclass(frozen=True)
class Stream:
    """Times of one request, in seconds since the load began."""

    sent: float
    events: tuple[float, ...]  # arrival of each event with text

    @property
    def first_token_seconds(self) -> float:
        return self.events[0] - self.sent

    @property
    def longest_gap(self) -> float:
        """Longest time between two events; 0 with fewer than two."""
        pairs = zip(self.events, self.events[1:], strict=False)
        return max((second - first for first, second in pairs), default=0.0)


@dataclass(frozen=True)
class RequestGroup:
    """Result of a group of concurrent requests."""

    seconds: float
    cpu_seconds: float
    streams: tuple[Stream, ...]


class Client:
    """Sends requests with random prompts that no server has in its cache.

    Args:
        vocabulary: prompts use token numbers from 8 to `vocabulary` - 8.
        seed: of the prompts.
    """

    def __init__(self, vocabulary: int, seed: int) -> None:
        self._vocabulary = vocabulary
        self._random = np.random.default_rng(seed)

    def prompt(self, tokens: int) -> list[int]:
        """Random token numbers."""
        drawn: list[int] = self._random.integers(8, self._vocabulary - 8, tokens).tolist()
        return drawn

    def run(
        self, server: Server, streams: int, prompt: int, output: int, sampling: dict[str, float]
    ) -> RequestGroup:
        """Run `streams` concurrent requests."""
        prompts = [self.prompt(prompt) for _ in range(streams)]
        return self.send(server, [(each, output, 0.0) for each in prompts], sampling)

    def send(
        self,
        server: Server,
        requests: list[tuple[list[int], int, float]],
        sampling: dict[str, float],
    ) -> RequestGroup:
        """Send (prompt, output tokens, delay in seconds) requests together."""
        cpu = server.cpu_seconds()
        started = time.perf_counter()
        results = asyncio.run(self._send(server, requests, sampling, started))
        seconds = time.perf_counter() - started
        return RequestGroup(seconds, server.cpu_seconds() - cpu, results)

    async def _send(
        self,
        server: Server,
        requests: list[tuple[list[int], int, float]],
        sampling: dict[str, float],
        started: float,
    ) -> tuple[Stream, ...]:
        timeout = aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def one(number: int) -> Stream:
                prompt, output, delay = requests[number]
                await asyncio.sleep(delay)
                body = {
                    "model": "model",
                    "prompt": prompt,
                    "max_tokens": output,
                    "stream": True,
                    "ignore_eos": True,
                    "seed": number + 1,
                    **sampling,
                }
                sent = time.perf_counter() - started
                events = []
                async with session.post(server.url + "/v1/completions", json=body) as response:
                    if response.status != 200:
                        text = await response.text()
                        raise SystemExit(f"{server.name}: {response.status} {text[:500]}")
                    async for line in response.content:
                        if line.startswith(b"data: {"):
                            events.append(time.perf_counter() - started)
                return Stream(sent, tuple(events))

            return tuple(await asyncio.gather(*(one(number) for number in range(len(requests)))))
