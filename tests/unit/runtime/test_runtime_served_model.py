"""Formats that follow from a model's tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from r1_runtime.errors import RequestError
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.output_parsing.delta import PlainText
from r1_runtime.output_parsing.reasoning import ReasoningParser
from r1_runtime.output_parsing.tool_calls import DeepSeekCalls, HermesCalls, ListedCalls, NamedCall
from r1_runtime.server.api.chat import parse_chat
from r1_runtime.server.limits import Limits
from r1_runtime.server.parser_options import ParserOptions
from r1_runtime.server.served_model import ServedModel
from r1_runtime.structured.thinking import ThinkingConstraint

TOKENS = ["<end>", "<think>", "</think>", "\n", "a", "b"]
TOOL = {"type": "function", "function": {"name": "f"}}


class FakeTokenizer:
    """One token per word of `TOKENS`."""

    eos_ids = (0,)

    def __init__(self, template: str = "", *, reasons: bool = True) -> None:
        self.template = template
        self.reasons = reasons

    def token_id(self, text: str) -> int | None:
        return TOKENS.index(text) if self.reasons and text in TOKENS else None

    def decode_all(self, tokens: Sequence[int]) -> str:
        return "".join(TOKENS[token] for token in tokens)

    def as_json(self) -> str:
        raise AssertionError("no grammar is compiled here")


def served(template: str = "", *, reasons: bool = True, **options: str) -> ServedModel:
    tokenizer: Any = FakeTokenizer(template, reasons=reasons)
    return ServedModel(
        tokenizer, Limits(64, 4, len(TOKENS)), GenerationDefaults(), ParserOptions(**options)
    )


def chat(**fields: Any) -> Any:
    return parse_chat({"model": "m", "messages": [{"role": "user", "content": "x"}]} | fields)


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [([4, 1, 3], True), ([4, 1], True), ([1, 4, 2], False), ([4], False), ([1, 2, 1], True)],
)
def test_prompt_that_ends_after_the_begin_tag_is_inside_of_the_reasoning(
    prompt: list[int], inside: bool
) -> None:
    assert served().begins_inside(prompt) is inside
    assert not served(reasoning_parser="none").begins_inside(prompt)


def test_parser_follows_template_options_and_tool_choice() -> None:
    model = served("<tool_call>", reasons=False)
    assert isinstance(model.parser(chat(), inside=False), PlainText)
    assert isinstance(model.parser(chat(tools=[TOOL]), inside=False), HermesCalls)
    required = chat(tools=[TOOL], tool_choice="required")
    assert isinstance(model.parser(required, inside=False), ListedCalls)
    named = chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "f"}})
    assert isinstance(model.parser(named, inside=False), NamedCall)
    chosen = served("<tool_call>", reasons=False, tool_call_parser="deepseek_v3")
    assert isinstance(chosen.parser(chat(tools=[TOOL]), inside=False), DeepSeekCalls)
    assert isinstance(served().parser(chat(), inside=True), ReasoningParser)


def test_tools_of_a_model_without_a_format_for_them_are_rejected() -> None:
    for model in (served(), served("<tool_call>", tool_call_parser="none")):
        with pytest.raises(RequestError, match="--tool-call-parser") as caught:
            model.parser(chat(tools=[TOOL]), inside=False)
        assert caught.value.param == "tools"


def test_budget_needs_a_model_that_reasons() -> None:
    wanted = chat(thinking_token_budget=5)
    assert isinstance(served().constraint(wanted, inside=True), ThinkingConstraint)
    assert served().constraint(chat(), inside=True) is None
    with pytest.raises(RequestError, match="thinking_token_budget"):
        served(reasons=False).constraint(wanted, inside=False)


def test_arguments_of_earlier_calls_are_objects_for_templates_that_write_json() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    history = ({"role": "assistant", "content": None, "tool_calls": [call]},)
    plain = served("{{ tool['function']['arguments'] }}").history(history)
    assert plain[0]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    for template in ("{{ call.arguments | tojson }}", "{{ tool['function']['arguments']|tojson }}"):
        objects = served(template).history(history)
        assert objects[0]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
