"""Parsing of request bodies: rejected fields are named, accepted ones are parsed."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.errors import RequestError
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.server.api.chat import CHAT_FIELDS, parse_chat
from r1_runtime.server.api.completion import COMPLETION_FIELDS, parse_completion
from r1_runtime.server.api.generation_request import Prompt

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "m", "prompt": "hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

TOOL = {"type": "function", "function": {"name": "f"}}

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
        "messages[0].tool_calls[0].function",
    ),
    ({"messages": [{"role": [], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "x", "name": 5}]}, "messages[0].name"),
    (
        {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
        "messages[0].tool_calls",
    ),
    (
        {"messages": [{"role": "assistant", "content": None, "function_call": {"name": "f"}}]},
        "messages[0].function_call",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "prefix": True}]},
        "messages[0].prefix",
    ),
    ({"messages": [{"role": "assistant", "content": "x", "prefix": 0}]}, "messages[0].prefix"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": "5.5"}, "max_tokens"),
    ({"max_tokens": "five"}, "max_tokens"),
    ({"max_tokens": 0, "max_completion_tokens": 5}, "max_tokens"),
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
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
    ),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": True}, "n"),
    ({"logprobs": 0}, "logprobs"),
    ({"presence_penalty": False}, "presence_penalty"),
    ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
    ({"store": 0}, "store"),
    ({"skip_special_tokens": False}, "skip_special_tokens"),
    ({"chat_template_kwargs": 5}, "chat_template_kwargs"),
    ({"stop": "x" * 5000}, "stop"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"top_k": -2}, "top_k"),
    ({"top_k": 2.5}, "top_k"),
    ({"min_p": 1.1}, "min_p"),
    ({"min_tokens": -1}, "min_tokens"),
    ({"min_tokens": 9, "max_tokens": 8}, "min_tokens"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"stop_token_ids": 5}, "stop_token_ids"),
    ({"stop_token_ids": [5, "x"]}, "stop_token_ids[1]"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 101}}, "logit_bias"),
    ({"logit_bias": {"-5": 1}}, "logit_bias"),
    ({"logit_bias": [5]}, "logit_bias"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 5}, "logprobs"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
    ),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
        "response_format.json_schema.schema",
    ),
    ({"guided_choice": []}, "guided_choice"),
    ({"guided_json": "{"}, "guided_json"),
    ({"guided_json": {}, "guided_regex": "a"}, "guided_regex"),
    ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml"),
    ({"thinking_token_budget": -1}, "thinking_token_budget"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"temprature": 0.5}, "temprature"),
]


@pytest.mark.parametrize(("change", "field"), REFUSED, ids=lambda value: str(value)[:40])
def test_invalid_chat_body_names_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_chat(CHAT | change)
    assert (caught.value.status, caught.value.param) == (400, field)
    assert field.split("[")[0] in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [None, [], 5, ["a", 1], [1, -2], [[]], [1, "a"], [1, "2"], [1, 2.5], [1, True], {"a": 1}],
)
def test_invalid_prompt_is_rejected(prompt: object) -> None:
    with pytest.raises(RequestError) as caught:
        parse_completion(TEXT | {"prompt": prompt})
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("field", ["best_of", "suffix", "use_beam_search"])
def test_unsupported_completion_parameters_are_rejected_by_name(field: str) -> None:
    with pytest.raises(RequestError, match=f"{field} is not implemented"):
        parse_completion(TEXT | {field: 3})


@pytest.mark.parametrize("body", [None, [], "text", 5])
def test_body_must_be_a_json_object(body: object) -> None:
    with pytest.raises(RequestError, match="JSON object"):
        parse_chat(body)


@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {"content": None, "tool_calls": [], "function_call": None, "audio": None},
        {"content": None, "refusal": "no", "annotations": []},
        {"content": None, "reasoning_content": "thinking"},
        {"content": "", "tool_calls": None, "prefix": False},
    ],
)
def test_an_assistant_message_without_content_is_empty(message: dict[str, Any]) -> None:
    history = [*CHAT["messages"], {"role": "assistant"} | message, *CHAT["messages"]]
    request = parse_chat(CHAT | {"messages": history})
    messages = request.prompts[0].messages
    assert messages is not None
    assert messages[1]["content"] == ""


def test_parameters_with_no_op_values_are_accepted() -> None:
    neutral: dict[str, Any] = {
        "n": 1,
        "presence_penalty": 0,
        "logprobs": None,
        "logit_bias": {},
        "user": "u",
        # Defaults of vLLM's benchmark client and of other clients.
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "top_k": -1,
        "min_p": 0,
        "min_tokens": 0,
        "top_logprobs": 0,
        "stop_token_ids": [],
        "skip_special_tokens": True,
        "chat_template_kwargs": {},
        "add_generation_prompt": True,
        "tool_choice": "auto",
        "max_tokens": None,
    }
    assert parse_chat(CHAT | neutral) == parse_chat(CHAT)


def test_numbers_may_be_strings_or_have_a_zero_fraction() -> None:
    given = {"max_tokens": "5", "temperature": "0.5", "seed": 7.0, "n": "1"}
    params = parse_chat(CHAT | given).params
    assert (params.max_tokens, params.temperature, params.seed) == (5, 0.5, 7)


def test_generation_config_sets_defaults_and_the_request_overrides_them() -> None:
    defaults = GenerationDefaults(temperature=0.6, top_p=0.95, max_tokens=100)
    chat = parse_chat(CHAT, defaults)
    assert (chat.params.temperature, chat.params.top_p, chat.params.max_tokens) == (0.6, 0.95, 100)
    assert chat.limited
    own = parse_chat(CHAT | {"temperature": 1, "top_p": 1, "max_tokens": 200}, defaults).params
    assert (own.temperature, own.top_p, own.max_tokens) == (1.0, 1.0, 200)
    text = parse_completion(TEXT, defaults).params
    assert (text.temperature, text.max_tokens) == (0.6, 16)


def test_a_history_with_tool_calls_and_absent_content_is_accepted() -> None:
    history = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
        {"role": "tool", "content": "sunny", "tool_call_id": "1"},
        {"role": "assistant", "content": "It is sunny.", "tool_calls": None},
    ]
    messages = parse_chat({"model": "m", "messages": history}).prompts[0].messages
    assert messages is not None
    assert messages[1] == {"role": "assistant", "content": None, "tool_calls": [CALL]}
    assert messages[2]["tool_call_id"] == "1"
    assert "tool_calls" not in messages[3]


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**65), 2**65),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from(
            ["5", "-1", "0.5", "auto", "none", "user", "assistant", "text", "function"]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "role",
                    "content",
                    "include_usage",
                    "tool_calls",
                    "function",
                    "name",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)
NAMES = sorted({*CHAT_FIELDS, *COMPLETION_FIELDS, "unknown"})


@settings(max_examples=1500, deadline=None)
@given(body=st.dictionaries(st.sampled_from(NAMES), json_values, max_size=4), chat=st.booleans())
def test_any_type_of_any_parameter_is_accepted_or_rejected_by_name(
    body: dict[str, Any], chat: bool
) -> None:
    whole = (CHAT if chat else TEXT) | body
    # Through JSON, as in the server: numbers beyond 64 bits become floats.
    value = orjson.loads(json.dumps(whole))
    refusal = None
    try:
        request = parse_chat(value) if chat else parse_completion(value)
        assert request.params.max_tokens >= 1
    except RequestError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status == 400
        assert refusal.param is not None
        assert refusal.param.split(".")[0].split("[")[0] in whole


def test_every_field_of_a_chat_body_is_parsed() -> None:
    request = parse_chat(
        CHAT
        | {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "seed": -3, "stop": "x"}
        | {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
    )
    params = request.params
    assert (params.max_tokens, params.temperature, params.top_p) == (5, 0.0, 0.5)
    assert (params.seed, params.stop, params.ignore_eos) == (-3, ("x",), True)
    assert (request.stream, request.include_usage, request.limited) == (True, True, True)


def test_text_parts_are_joined_and_role_developer_becomes_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_chat({"model": "m", "messages": [{"role": "developer", "content": parts}]})
    assert request.prompts[0].messages == ({"role": "system", "content": "ab"},)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", [Prompt(text="hi")]),
        (["hi"], [Prompt(text="hi")]),
        ([1, 2], [Prompt(tokens=(1, 2))]),
        ([[1, 2]], [Prompt(tokens=(1, 2))]),
        ([1.0, 2], [Prompt(tokens=(1, 2))]),  # JSON has one kind of number
        (["a", "b", [3]], [Prompt(text="a"), Prompt(text="b"), Prompt(tokens=(3,))]),
    ],
)
def test_prompts_may_be_text_tokens_or_lists_of_both(
    prompt: object, expected: list[Prompt]
) -> None:
    assert list(parse_completion(TEXT | {"prompt": prompt}).prompts) == expected


def test_max_tokens_0_needs_echo() -> None:
    with pytest.raises(RequestError, match="echo"):
        parse_completion(TEXT | {"max_tokens": 0})
    request = parse_completion(TEXT | {"max_tokens": 0, "echo": True, "logprobs": 1})
    assert (request.no_output, request.params.max_tokens) == (True, 1)
    assert request.params.prompt_logprobs == 1


def test_every_sampling_parameter_is_parsed() -> None:
    params = parse_chat(
        CHAT
        | {"min_tokens": 2, "top_k": 5, "min_p": 0.1, "stop_token_ids": [7], "max_tokens": 9}
        | {"presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5}
        | {"logit_bias": {"5": -100}, "logprobs": True, "top_logprobs": 3}
    ).params
    assert params == SamplingParams(
        max_tokens=9,
        min_tokens=2,
        top_k=5,
        min_p=0.1,
        stop_token_ids=(7,),
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        repetition_penalty=1.5,
        logit_bias=((5, -100.0),),
        logprobs=3,
    )
    assert parse_chat(CHAT | {"top_k": -1, "logprobs": True}).params.top_k == 0
    assert parse_chat(CHAT | {"logprobs": True}).params.logprobs == 0


@pytest.mark.parametrize(
    ("fields", "kind", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json_schema", {"type": "object"}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}},
            "json_schema",
            {"a": 1},
        ),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"structured_outputs": {"json_object": True}}, "json_schema", {"type": "object"}),
        ({"guided_json": '{"a": 1}'}, "json_schema", {"a": 1}),
        ({"guided_choice": ["a", "b"]}, "choice", ("a", "b")),
        ({"guided_grammar": "start: /a/"}, "grammar", "start: /a/"),
    ],
)
def test_output_formats_of_openai_and_vllm_are_parsed(
    fields: dict[str, Any], kind: str, value: object
) -> None:
    chat, text = parse_chat(CHAT | fields).format, parse_completion(TEXT | fields).format
    assert chat == text
    assert chat is not None
    assert (chat.kind, chat.value) == (kind, value)


def test_required_and_named_calls_have_a_format_of_their_own() -> None:
    required = parse_chat(CHAT | {"tools": [TOOL], "tool_choice": "required"}).format
    assert required is not None
    assert required.value["type"] == "array"
    named = {"type": "function", "function": {"name": "f"}}
    request = parse_chat(CHAT | {"tools": [TOOL], "tool_choice": named})
    assert request.format is not None
    assert request.format.value == {"type": "object"}
    assert request.tools is not None
    assert (request.tools.choice, request.tools.named) == ("f", True)
    assert parse_chat(CHAT | {"tools": [TOOL], "tool_choice": "none"}).tools is None


def test_max_completion_tokens_has_precedence_over_max_tokens() -> None:
    request = parse_chat(CHAT | {"max_tokens": 5, "max_completion_tokens": 7})
    assert request.params.max_tokens == 7
