"""The load generator against a gateway that streams, rejects, breaks and stalls."""

import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from r1_demo.load.arrivals import ScheduledRequest
from r1_demo.load.load_generator import (
    RequestOutcome,
    carries_token,
    generated_tokens,
    prompt_of,
    read_outcomes,
    read_schedule,
    send_all,
    write_schedule,
)


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    """Serve `model` by its name: ok, busy, broken, cut, error."""

    async def complete(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["model"] == "busy":
            return web.Response(status=429, text="queue full")
        if body["model"] == "broken":
            return web.Response(status=502, text="no pod")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for index in range(body["max_tokens"]):
            event = {"choices": [{"text": f"{index}"}]}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if body["model"] == "error":
            await response.write(b'data: {"error": {"message": "engine died"}}\n\n')
        elif body["model"] != "cut":
            await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def outcomes_of(gateway: str, *arrivals: ScheduledRequest) -> list[RequestOutcome]:
    written = io.StringIO()
    await send_all(gateway, arrivals, time.time(), written)
    return [RequestOutcome(**json.loads(line)) for line in written.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("model", "completed", "rejected", "failed", "error"),
    [
        ("ok", True, False, False, ""),
        ("busy", False, True, False, "queue full"),
        ("broken", False, False, True, "no pod"),
        ("cut", False, False, True, "the stream ended without [DONE]"),
        ("error", False, False, True, "engine died"),
    ],
)
async def test_completed_rejected_and_failed_requests_are_distinguished(
    gateway: str, model: str, completed: bool, rejected: bool, failed: bool, error: str
) -> None:
    [outcome] = await outcomes_of(gateway, ScheduledRequest(0.0, model, "Q1", 8, 5))
    assert (outcome.completed, outcome.rejected, outcome.failed) == (completed, rejected, failed)
    assert error in outcome.error
    assert outcome.tokens == (5 if outcome.status == 200 else 0)
    assert (outcome.first_token_ms is not None) == (outcome.status == 200)


@pytest.mark.parametrize(
    ("event", "token"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"content": None}, "finish_reason": "stop"}]}, False),
        ({"choices": [], "usage": {"completion_tokens": 3}}, False),
        ({"choices": [{"text": ""}]}, False),
        ({"choices": [{"text": " a"}]}, True),
        ({"choices": [{"delta": {"content": "a"}}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "a"}}]}, True),
        ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, True),
    ],
)
def test_the_first_token_is_the_first_event_with_content(
    event: dict[str, Any], token: bool
) -> None:
    assert carries_token(event) is token


def test_the_engines_token_count_takes_precedence() -> None:
    assert generated_tokens({"choices": [], "usage": {"completion_tokens": 7}}, 3) == 7
    assert generated_tokens({"choices": [{"text": "a"}], "usage": None}, 3) == 4
    assert generated_tokens({"choices": [{"text": ""}]}, 3) == 3


async def test_a_refused_connection_is_a_failure() -> None:
    [outcome] = await outcomes_of("http://127.0.0.1:9", ScheduledRequest(0.0, "ok", None, 8, 5))
    assert outcome.failed
    assert outcome.status == 0


async def test_load_is_open_loop_and_waits_count_from_the_due_time(gateway: str) -> None:
    late = time.time() - 0.5  # the generator starts half a second behind its schedule
    written = io.StringIO()
    await send_all(
        gateway, [ScheduledRequest(0.1 * i, "ok", None, 8, 2) for i in range(8)], late, written
    )
    outcomes = sorted(
        (RequestOutcome(**json.loads(line)) for line in written.getvalue().splitlines()),
        key=lambda outcome: outcome.at,
    )
    assert len(outcomes) == 8
    assert outcomes[0].late_ms >= 400
    assert outcomes[0].first_token_ms is not None
    assert outcomes[0].first_token_ms >= outcomes[0].late_ms
    assert outcomes[-1].late_ms < outcomes[0].late_ms


def test_schedule_and_outcomes_round_trip_through_files(tmp_path: Path) -> None:
    arrivals = [ScheduledRequest(0.5, "r1", "Q1", 8, 4), ScheduledRequest(1.0, "r1", None, 9, 5)]
    write_schedule(tmp_path / "s", arrivals)
    assert read_schedule(tmp_path / "s") == arrivals
    results = tmp_path / "r"
    line = json.dumps(
        {"at": 1.0, "model": "m", "klass": None, "status": 200, "first_token_ms": 5.0}
        | {"total_ms": 9.0, "tokens": 3, "late_ms": 0.1, "error": ""}
    )
    results.write_text(line + "\n" + line[:10])  # the second is still being written
    first, offset = read_outcomes(results)
    assert len(first) == 1
    results.write_text(line + "\n" + line + "\n")
    second, _ = read_outcomes(results, offset)
    assert second == first


def test_prompts_have_the_requested_length() -> None:
    assert len(prompt_of(12, seed=1.0).split()) == 12
    assert prompt_of(12, seed=1.0) == prompt_of(12, seed=1.0)
    assert prompt_of(12, seed=1.0) != prompt_of(12, seed=2.0)
