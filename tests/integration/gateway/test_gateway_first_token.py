"""Time to first token and token counts on the real process, beside what the client measures."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway_process import gateway_process
from scripted_pod import Conversation, Script, ScriptedPod

NewPod = Callable[..., Awaitable[ScriptedPod]]

BEFORE_FIRST = 0.4
"""Seconds between the head of a stream and its first token."""
BETWEEN = 0.02
TOKENS = 500
USAGE = {"prompt_tokens": 7, "total_tokens": 507, "completion_tokens": TOKENS}


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def chat(delta: object, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return event({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def text(piece: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": piece, "finish_reason": finish}
    return event({"id": "x", "object": "text_completion", "model": "m", "choices": [choice]})


DONE = b"data: [DONE]\n\n"
COUNTS = event({"id": "x", "choices": [], "usage": USAGE})
ROLE = chat({"role": "assistant", "content": ""})


@dataclass(frozen=True)
class Form:
    """A stream as an engine sends it: before the first token, with it, and after it."""

    path: str
    early: list[bytes]
    tokens: list[bytes]
    end: list[bytes]


FORMS = {
    "vLLM chat": Form(
        "chat/completions", [ROLE], [chat({"content": "a"})] * 3, [chat({}, "stop"), COUNTS, DONE]
    ),
    "vLLM completion": Form("completions", [], [text("a")] * 3, [text("", "stop"), COUNTS, DONE]),
    "SGLang chat": Form(
        "chat/completions",
        [
            chat({"role": "assistant", "content": "", "reasoning_content": None}),
            b": ping\n\n",
        ],
        [chat({"role": None, "content": "a", "reasoning_content": None})] * 3,
        [chat({"content": None}, "stop"), COUNTS, DONE],
    ),
    "reasoning": Form(
        "chat/completions",
        [ROLE],
        [chat({"reasoning_content": "hm"}), chat({"content": "a"})],
        [COUNTS, DONE],
    ),
    "tool call": Form(
        "chat/completions",
        [ROLE],
        [chat({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]})],
        [chat({}, "tool_calls"), COUNTS, DONE],
    ),
    "bundled runtime chat": Form(
        "chat/completions",
        [],
        [ROLE + chat({"content": "a"}), chat({"content": "b"})],
        [chat({}, "stop"), COUNTS, DONE],
    ),
    "usage apart from its end, cut in two": Form(
        "completions", [b": keep-alive\n\n"], [text("a")] * 2, [COUNTS[:60], COUNTS[60:], DONE]
    ),
    "usage and its end cut elsewhere": Form(
        "completions",
        [],
        [text("a")] * 2,
        [COUNTS[:-5], COUNTS[-5:] + DONE[:4], DONE[4:]],
    ),
}


def streaming(form: Form, received: asyncio.Event | None = None) -> Script:
    """The pod's part; the end comes ``BETWEEN`` seconds after the client ``received`` content."""

    async def run(conversation: Conversation) -> None:
        conversation.start_stream()
        for piece in form.early:
            conversation.chunk(piece)
        await asyncio.sleep(BEFORE_FIRST)
        for piece in form.tokens:
            conversation.chunk(piece)
            await asyncio.sleep(BETWEEN)
        if received is not None:
            await asyncio.wait_for(received.wait(), 60)
            await asyncio.sleep(BETWEEN)
        for piece in form.end:
            conversation.chunk(piece)
            await asyncio.sleep(BETWEEN)
        conversation.end_stream()

    return run


async def first_token_seconds(
    port: int, path: str, received: asyncio.Event | None = None
) -> float | None:
    """The client's own measurement: request sent until content is read; None without content."""
    body = {"model": "m", "stream": True, "prompt": "x"}
    begun = time.monotonic()
    first_token = None
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/v1/{path}", json=body) as answer,
    ):
        assert answer.status == 200
        async for line in answer.content:
            data = line.strip().removeprefix(b"data: ")
            if first_token is not None or not data.startswith(b"{"):
                continue
            for choice in json.loads(data).get("choices", []):
                delta = choice.get("delta") or choice
                if any(
                    delta.get(k) for k in ("content", "reasoning_content", "tool_calls", "text")
                ):
                    first_token = time.monotonic() - begun
                    if received is not None:
                        received.set()
    return first_token


async def metrics(admin: int) -> dict[str, float]:
    """Samples of the only class that got requests."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{admin}/metrics") as answer,
    ):
        families = text_string_to_metric_families(await answer.text())
    return {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("class", "Q2") == "Q2" and "le" not in sample.labels
    }


async def signals(admin: int) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{admin}/signals") as answer,
    ):
        document = await answer.json()
    route_signals: dict[str, Any] = document["routes"]["default/m"]
    return route_signals


SLO = {"Q2": {"timeToFirstTokenMilliseconds": 200}}


@pytest.mark.parametrize("name", FORMS)
async def test_the_gateway_measures_what_the_client_measures(
    tmp_path: Path, new_pod: NewPod, name: str
) -> None:
    form = FORMS[name]
    received = asyncio.Event()
    pod = await new_pod(streaming(form, received))
    async with gateway_process(tmp_path, pod.address, classes=SLO) as (port, admin):
        mine = await first_token_seconds(port, form.path, received)
        metric_values = await metrics(admin)
        histogram = (await signals(admin))["timeToFirstToken"]["Q2"]
    assert mine is not None
    measured = metric_values["r1_gateway_time_to_first_token_seconds_sum"]
    assert metric_values["r1_gateway_time_to_first_token_seconds_count"] == 1
    assert BEFORE_FIRST <= measured <= mine + 0.001
    assert histogram["sumSeconds"] == pytest.approx(measured)
    assert metric_values["r1_gateway_slo_missed_total"] == 1
    assert metric_values["r1_gateway_tokens_generated_total"] == TOKENS
    each = metric_values["r1_gateway_time_per_output_token_seconds_sum"]
    assert each * (TOKENS - 1) >= BETWEEN


@pytest.mark.parametrize(
    "stream",
    [
        [ROLE, chat({}, "stop"), COUNTS, DONE],
        [chat({"role": "assistant", "content": None}, "length"), DONE],
        [event({"error": {"message": "refused", "code": 400}}), DONE],
        [b": ping\n\n", DONE],
        [],
    ],
)
async def test_a_stream_without_content_ends_without_a_first_token(
    tmp_path: Path, new_pod: NewPod, stream: list[bytes]
) -> None:
    pod = await new_pod(streaming(Form("chat/completions", stream, [], [])))
    async with gateway_process(tmp_path, pod.address, classes=SLO) as (port, admin):
        assert await first_token_seconds(port, "chat/completions") is None
        metric_values = await metrics(admin)
        route = await signals(admin)
    assert "r1_gateway_time_to_first_token_seconds_count" not in metric_values
    assert metric_values["r1_gateway_slo_missed_total"] == 0
    assert metric_values["r1_gateway_in_flight"] == 0
    assert route["completed"]["Q2"] == 1
    assert route["timeToFirstToken"] == {}


async def test_generated_tokens_follow_the_usage(tmp_path: Path, new_pod: NewPod) -> None:
    form = FORMS["usage apart from its end, cut in two"]
    pod = await new_pod(streaming(Form(form.path, [], form.tokens, form.end)))
    async with gateway_process(tmp_path, pod.address, seatsPerReplica=40) as (port, admin):
        await asyncio.gather(*(first_token_seconds(port, form.path) for _ in range(40)))
        before = (await signals(admin))["offeredTokens"]["Q2"]
        await first_token_seconds(port, form.path)
        after = (await signals(admin))["offeredTokens"]["Q2"]
    learned = TOKENS - (TOKENS - 128) * 0.95**40  # from the guess of 128, a twentieth at a time
    assert after - before == pytest.approx(learned, abs=2)
