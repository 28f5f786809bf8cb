"""Request bodies: what is refused is named, what is accepted means something."""

from __future__ import annotations

from typing import Any

import pytest

from r1_runtime.errors import RequestError
from r1_runtime.server.requests import parse_chat, parse_completion

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "m", "prompt": "hi"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": 3}, "model"),
    ({"model": ""}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": ["hi"]}, "messages[0]"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]},
        "messages[0].content",
    ),
    (
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]},
        "messages[0].tool_calls",
    ),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 2**70}, "seed"),
    ({"stop": ""}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stop": 5}, "stop"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": 5}, "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"presence_penalty": 0.5}, "presence_penalty"),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"temprature": 0.5}, "temprature"),
]


@pytest.mark.parametrize(("change", "field"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_bad_chat_is_refused_with_the_field_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat(CHAT | change)
    assert (caught.value.status, caught.value.param) == (400, field)
    assert field.split("[")[0] in str(caught.value)


@pytest.mark.parametrize("prompt", [None, [], 5, ["a", "b"], [1, -2], [[]], [1, "a"], {"a": 1}])
def test_a_bad_prompt_is_refused(prompt: object) -> None:
    with pytest.raises(RequestError) as caught:
        parse_completion(TEXT | {"prompt": prompt})
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("field", ["best_of", "echo", "suffix", "logprobs"])
def test_what_completions_cannot_do_is_refused_by_name(field: str) -> None:
    with pytest.raises(RequestError, match=f"{field} is not implemented"):
        parse_completion(TEXT | {field: 3})


@pytest.mark.parametrize("body", [None, [], "text", 5])
def test_the_body_must_be_an_object(body: object) -> None:
    with pytest.raises(RequestError, match="JSON object"):
        parse_chat(body)


def test_what_asks_for_nothing_is_accepted() -> None:
    neutral: dict[str, Any] = {
        "n": 1,
        "presence_penalty": 0,
        "logprobs": None,
        "logit_bias": {},
        "user": "u",
    }
    assert parse_chat(CHAT | neutral) == parse_chat(CHAT)


def test_every_field_arrives() -> None:
    request = parse_chat(
        CHAT
        | {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "seed": -3, "stop": "x"}
        | {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    )
    params = request.params
    assert (params.max_tokens, params.temperature, params.top_p) == (5, 0.0, 0.5)
    assert (params.seed, params.stop, params.ignore_eos) == (-3, ("x",), True)
    assert (request.stream, request.include_usage, request.limited) == (True, True, True)


def test_parts_of_text_are_joined_and_the_developer_is_the_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_chat({"model": "m", "messages": [{"role": "developer", "content": parts}]})
    assert request.messages == ({"role": "system", "content": "ab"},)


def test_prompts_come_as_text_or_tokens() -> None:
    assert parse_completion(TEXT).text == "hi"
    assert parse_completion(TEXT | {"prompt": ["hi"]}).text == "hi"
    assert parse_completion(TEXT | {"prompt": [1, 2]}).tokens == (1, 2)
    assert parse_completion(TEXT | {"prompt": [[1, 2]]}).tokens == (1, 2)


def test_the_newer_name_of_the_limit_wins() -> None:
    request = parse_chat(CHAT | {"max_tokens": 5, "max_completion_tokens": 7})
    assert request.params.max_tokens == 7
