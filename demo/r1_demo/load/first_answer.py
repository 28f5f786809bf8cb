"""A real question for a real model, before the load: the bundled model of the load knows no facts."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

QUESTION = "Name the capital of Japan."
EXPECTED = "Tokyo"
_SECONDS = 120.0


@dataclass(frozen=True)
class Answer:
    """Text of the answer, and the seconds until its first and last token."""

    text: str
    first_token_seconds: float
    seconds: float

    @property
    def right(self) -> bool:
        return EXPECTED in self.text


def ask(url: str, model: str) -> Answer:
    """Send the question through the gateway.

    Raises:
        RuntimeError: the gateway refused it; the message holds its response.
    """
    return asyncio.run(_ask(url, model))


async def _ask(url: str, model: str) -> Answer:
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 40,
        "stream": True,
    }
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    started = time.monotonic()
    first: float | None = None
    text = ""
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {(await response.text())[:300]}")
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            delta = _content(line)
            if delta and first is None:
                first = time.monotonic() - started
            text += delta
    seconds = time.monotonic() - started
    return Answer(text.strip(), seconds if first is None else first, seconds)


def _content(line: bytes) -> str:
    choices = json.loads(line[6:]).get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")
