"""Bodies of `/v1/responses`: items become chat messages, tools become those of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from r1_runtime.errors import RequestError
from r1_runtime.server.api.responses_body.body import parse_responses

BODY: dict[str, Any] = {"model": "m", "input": "hi"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
USER = {"role": "user", "content": "weather?"}
CALL = {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "think"}],
}


def messages(items: list[Any]) -> list[dict[str, Any]]:
    parsed = parse_responses(BODY | {"input": items}).generation.prompts[0].messages
    assert parsed is not None
    return [dict(message) for message in parsed]


def test_items_of_one_turn_become_one_chat_message() -> None:
    text = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "so"}],
    }
    second = CALL | {"call_id": "c2"}
    parsed = messages([USER, REASONING, text, CALL, second, OUTPUT, OUTPUT | {"call_id": "c2"}])
    assert [message["role"] for message in parsed] == ["user", "assistant", "tool", "tool"]
    turn = parsed[1]
    assert (turn["reasoning_content"], turn["content"]) == ("think", "so")
    assert [call["id"] for call in turn["tool_calls"]] == ["c1", "c2"]
    assert turn["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": "{}"}
    assert parsed[2] == {"role": "tool", "content": "sunny", "tool_call_id": "c1"}


def test_a_call_without_text_has_no_content() -> None:
    assert messages([USER, CALL, OUTPUT])[1]["content"] is None
    assert messages([USER, REASONING, CALL, OUTPUT])[1]["reasoning_content"] == "think"


def test_a_turn_after_a_tool_output_is_a_message_of_its_own() -> None:
    parsed = messages([USER, CALL, OUTPUT, REASONING, CALL | {"call_id": "c2"}])
    assert [message["role"] for message in parsed] == ["user", "assistant", "tool", "assistant"]
    assert len(parsed[1]["tool_calls"]) == len(parsed[3]["tool_calls"]) == 1


def test_consecutive_assistant_messages_stay_apart() -> None:
    answer = {"role": "assistant", "content": "a"}
    assert [each["content"] for each in messages([USER, answer, answer])] == ["weather?", "a", "a"]


def test_outputs_of_tools_may_be_lists_of_texts() -> None:
    parts = [{"type": "input_text", "text": "sun"}, {"type": "input_text", "text": "ny"}]
    assert messages([USER, CALL, OUTPUT | {"output": parts}])[2]["content"] == "sunny"


def test_tools_have_the_form_of_a_chat() -> None:
    tools = parse_responses(BODY | {"tools": [TOOL]}).generation.tools
    assert tools is not None
    function = {"name": "get_weather", "parameters": PARAMETERS, "strict": True}
    assert tools.definitions == ({"type": "function", "function": function},)
    assert (tools.choice, tools.named, tools.parallel) == ("auto", False, True)
    choice = {"type": "function", "name": "get_weather"}
    named = parse_responses(BODY | {"tools": [TOOL], "tool_choice": choice}).generation
    assert named.tools is not None
    assert (named.tools.choice, named.tools.named) == ("get_weather", True)
    assert named.format is not None
    assert named.format.value == PARAMETERS
    assert parse_responses(BODY | {"tools": [TOOL], "tool_choice": "none"}).generation.tools is None


def test_the_response_repeats_tools_and_choice_as_they_were_sent() -> None:
    fields: dict[str, Any] = {"tools": [TOOL], "tool_choice": "required"}
    echoed = parse_responses(BODY | fields | {"parallel_tool_calls": False}).echoed
    assert echoed["tools"] == [TOOL]
    assert (echoed["tool_choice"], echoed["parallel_tool_calls"]) == ("required", False)


def test_sampling_parameters_of_vllm_are_read() -> None:
    fields = {"stop": "x", "min_tokens": 2, "repetition_penalty": 1.5, "logit_bias": {"5": 1}}
    params = parse_responses(BODY | fields).generation.params
    assert (params.stop, params.min_tokens, params.repetition_penalty) == (("x",), 2, 1.5)
    assert params.logit_bias == ((5, 1.0),)


def test_reasoning_effort_sets_variables_of_the_template() -> None:
    generation = parse_responses(BODY | {"reasoning": {"effort": "low"}}).generation
    assert generation.template_variables == {"reasoning_effort": "low", "enable_thinking": True}
    own = {"chat_template_kwargs": {"enable_thinking": True}, "reasoning": {"effort": "none"}}
    assert parse_responses(BODY | own).generation.template_variables["enable_thinking"] is True


ACCEPTED: list[dict[str, Any]] = [
    {"store": True, "include": ["reasoning.encrypted_content"], "truncation": "disabled"},
    {"reasoning": {"summary": "auto", "effort": None}, "metadata": {"a": "b"}, "user": "u"},
    {"stream": True, "stream_options": {"include_obfuscation": False}, "service_tier": "auto"},
    {"max_tool_calls": 3, "tools": [], "tool_choice": "auto", "prompt_cache_key": "k"},
    {"previous_response_id": None, "conversation": None, "background": False},
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda fields: next(iter(fields)))
def test_fields_of_openai_clients_without_effect_are_accepted(fields: dict[str, Any]) -> None:
    parse_responses(BODY | fields)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "send the whole conversation"),
    ({"conversation": "c"}, "conversation", "send the whole conversation"),
    ({"background": True}, "background", "not implemented"),
    ({"include": ["message.output_text.logprobs"]}, "include[0]", "one of"),
    ({"input": []}, "input", "at least one item"),
    ({"input": ["x"]}, "input[0]", "object"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "send the item itself"),
    ({"input": [{"type": []}]}, "input[0].type", "one of"),
    ({"input": [{"role": "user"}]}, "input[0].content", "text or a list"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "one of"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input[0].content[0].type",
        "one of",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
        "input[0].content[0].text",
        "text",
    ),
    ({"input": [USER, OUTPUT]}, "input[1].call_id", "send the function_call item too"),
    ({"input": [USER, CALL | {"name": 5}]}, "input[1].name", "text"),
    ({"input": [USER, CALL | {"call_id": ""}]}, "input[1].call_id", "not empty"),
    ({"input": [USER, CALL, OUTPUT | {"output": 5}]}, "input[2].output", "text or a list"),
    ({"input": [REASONING | {"content": [{"type": "x"}]}]}, "input[0].content[0].type", "one of"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "no tools of its own"),
    ({"tools": ["x"]}, "tools[0].type", "function"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "letters"),
    ({"tools": [TOOL | {"parameters": 5}]}, "tools[0].parameters", "object"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice", "tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice", "one of"),
    ({"tool_choice": "required"}, "tool_choice", "needs tools"),
    ({"stream_options": {"include_obfuscation": False}}, "stream_options", "stream: true"),
    ({"max_output_tokens": 4, "min_tokens": 5}, "min_tokens", "max_output_tokens"),
    (
        {"tools": [TOOL], "tool_choice": "required", "text": {"format": {"type": "json_object"}}},
        "text.format",
        "tool_choice",
    ),
]


@pytest.mark.parametrize(("fields", "param", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_invalid_body_of_a_response_names_the_field(
    fields: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        parse_responses(BODY | fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert message in str(caught.value)
