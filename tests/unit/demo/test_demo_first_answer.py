"""The question of the demo: the stream becomes one text, and a refusal keeps its message."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from r1_demo.load.first_answer import ask


@contextmanager
def server(status: int, deltas: list[str]) -> Iterator[str]:
    """An OpenAI endpoint on the loopback address that streams these texts."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if status != 200:
            return web.json_response({"error": {"message": "no such model"}}, status=status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for delta in [{"role": "assistant"}, *({"content": text} for text in deltas), {}]:
            event = json.dumps({"choices": [{"delta": delta}]})
            await response.write(f"data: {event}\n\n".encode())
        await response.write(b'data: {"choices": [], "usage": {}}\n\ndata: [DONE]\n\n')
        return response

    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(runner.cleanup())
        loop.close()


@pytest.mark.parametrize(
    ("deltas", "text", "right"),
    [
        (["The capital of Japan is", " Tokyo."], "The capital of Japan is Tokyo.", True),
        (["Osaka"], "Osaka", False),
        ([], "", False),
    ],
)
def test_the_streamed_answer_is_one_text_and_is_checked(
    deltas: list[str], text: str, right: bool
) -> None:
    with server(200, deltas) as url:
        answer = ask(url, "model")
    assert (answer.text, answer.right) == (text, right)
    assert 0 <= answer.first_token_seconds <= answer.seconds


def test_a_refused_question_raises_with_the_response() -> None:
    with server(404, []) as url, pytest.raises(RuntimeError, match="HTTP 404.*no such model"):
        ask(url, "model")
