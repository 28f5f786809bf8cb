"""Open-loop load generator: sends each request of a schedule at its time.

It is a process of its own, so that drawing the terminal does not delay it. It reads arrivals as
JSON lines and writes one JSON line per finished request. Time to first token counts from the time
a request was due, not from when it was sent: a late generator must not hide the wait that it
caused. The first token is the first event with content, as in the gateway.

    python -m r1_demo.load.load_generator --url http://gateway --schedule FILE --results FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import aiohttp

from r1_demo.load.arrivals import ScheduledRequest

REQUEST_TIMEOUT_SECONDS = 120.0
_TOKEN_FIELDS = ("text", "content", "reasoning_content", "reasoning", "tool_calls")
_WORDS = [
    "a",
    "replica",
    "that",
    "starts",
    "before",
    "the",
    "load",
    "arrives",
    "answers",
    "the",
    "first",
    "request",
    "of",
    "the",
    "rush",
    "as",
    "quickly",
    "as",
    "the",
    "last",
    "one",
    "of",
    "the",
    "calm",
    "and",
    "anyone",
    "who",
    "waits",
    "for",
    "it",
    "can",
    "tell",
    "the",
    "difference",
]


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """Outcome of one request. Times in seconds of the run and milliseconds from the due time.

    `status` is the HTTP status, 0 without a response; `error` is empty for a complete response.
    `late_ms` is the delay of the request behind its due time.
    """

    at: float
    model: str
    klass: str | None
    status: int
    first_token_ms: float | None
    total_ms: float
    tokens: int
    late_ms: float
    error: str = ""

    @property
    def rejected(self) -> bool:
        """Whether the gateway rejected the request with 429, which is no failure."""
        return self.status == 429

    @property
    def completed(self) -> bool:
        """Whether the response was complete."""
        return self.status == 200 and not self.error

    @property
    def failed(self) -> bool:
        """Whether the request neither completed nor was rejected."""
        return not (self.completed or self.rejected)


def prompt_of(tokens: int, seed: float) -> str:
    """Return a prompt of about `tokens` tokens."""
    rng = random.Random(seed)  # noqa: S311
    first = rng.randrange(len(_WORDS))
    return " ".join(_WORDS[(first + index) % len(_WORDS)] for index in range(max(1, tokens)))


def carries_token(event: Mapping[str, Any]) -> bool:
    """Return whether a choice of the event holds text, reasoning or a tool call."""
    for choice in event.get("choices") or []:
        parts = choice.get("delta") or choice
        if any(parts.get(name) for name in _TOKEN_FIELDS):
            return True
    return False


def generated_tokens(event: Mapping[str, Any], before: int) -> int:
    """Return the tokens generated so far: the engine's count, else one more per event with content."""
    usage = event.get("usage") or {}
    if "completion_tokens" in usage:
        return int(usage["completion_tokens"])
    return before + carries_token(event)


async def send(
    session: aiohttp.ClientSession, url: str, arrival: ScheduledRequest, due: float
) -> RequestOutcome:
    """Send one request and read its stream to the end. `due` is on the monotonic clock."""
    sent = time.monotonic()
    headers = {} if arrival.klass is None else {"x-r1-priority": arrival.klass}
    body = {
        "model": arrival.model,
        "prompt": prompt_of(arrival.prompt_tokens, arrival.at),
        "max_tokens": arrival.output_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    status, first, tokens, error = 0, None, 0, ""
    try:
        async with session.post(f"{url}/v1/completions", json=body, headers=headers) as response:
            status = response.status
            if status != 200:
                error = (await response.text())[:200]
            else:
                done = False
                async for raw in response.content:
                    line = raw.strip()
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        done = True
                        break
                    event = json.loads(data)
                    if "error" in event:
                        error = str(event["error"])[:200]
                        break
                    if first is None and not carries_token(event):
                        continue  # the role, an empty text, or counts only
                    if first is None:
                        first = time.monotonic()
                    tokens = generated_tokens(event, tokens)
                if not done and not error:
                    error = "the stream ended without [DONE]"
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as failure:
        error = f"{type(failure).__name__}: {failure}"[:200]
    return RequestOutcome(
        at=arrival.at,
        model=arrival.model,
        klass=arrival.klass,
        status=status,
        first_token_ms=None if first is None else (first - due) * 1000,
        total_ms=(time.monotonic() - due) * 1000,
        tokens=tokens,
        late_ms=(sent - due) * 1000,
        error=error,
    )


async def send_all(
    url: str, arrivals: Iterable[ScheduledRequest], starts_at: float, results: TextIO
) -> None:
    """Send each arrival at its time, and write each outcome when the request ends.

    `starts_at` is the unix time of the schedule's start.
    """
    zero = time.monotonic() + (starts_at - time.time())
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    running: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def one(arrival: ScheduledRequest) -> None:
            outcome = await send(session, url, arrival, zero + arrival.at)
            results.write(json.dumps(asdict(outcome)) + "\n")
            results.flush()

        for arrival in arrivals:
            pause = zero + arrival.at - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            task = asyncio.create_task(one(arrival))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)


def read_schedule(path: Path) -> list[ScheduledRequest]:
    """Read arrivals from JSON lines."""
    with path.open() as file:
        return [ScheduledRequest(**json.loads(line)) for line in file]


def write_schedule(path: Path, arrivals: Iterable[ScheduledRequest]) -> None:
    """Write arrivals as JSON lines."""
    with path.open("w") as file:
        for arrival in arrivals:
            file.write(json.dumps(asdict(arrival)) + "\n")


def read_outcomes(path: Path, offset: int = 0) -> tuple[list[RequestOutcome], int]:
    """Return the outcomes written since byte `offset`, and the next offset."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [RequestOutcome(**json.loads(line)) for line in whole.splitlines()], offset + len(whole)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send one schedule."""
    parser = argparse.ArgumentParser(prog="python -m r1_demo.load.load_generator")
    parser.add_argument("--url", required=True, help="the gateway, without /v1")
    parser.add_argument("--schedule", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--starts-at", type=float, default=None, help="unix seconds (default: now)")
    options = parser.parse_args(arguments)
    arrivals = read_schedule(options.schedule)
    starts_at = time.time() if options.starts_at is None else options.starts_at
    with options.results.open("a") as results:
        asyncio.run(send_all(options.url.rstrip("/"), arrivals, starts_at, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
