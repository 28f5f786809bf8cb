"""Reasoning and tool calls: examples in the formats of published models."""

from __future__ import annotations

import pytest

from r1_runtime.output_parsing.delta import Delta, OutputParser, PlainText, ToolCallDelta
from r1_runtime.output_parsing.reasoning import ReasoningParser
from r1_runtime.output_parsing.tool_calls import PARSERS, ListedCalls, NamedCall, parser_of_template


def parsed(parser: OutputParser, text: str) -> Delta:
    return parser.push(text) + parser.finish()


@pytest.mark.parametrize(
    ("inside", "text", "reasoning", "content"),
    [
        (True, "First.\nSecond.\n</think>\n\nAnswer.\n", "First.\nSecond.", "Answer.\n"),
        (False, "<think>\nA\n</think>\n\nB", "A", "B"),
        (False, "\n<think>A</think>B", "A", "B"),
        (False, "B <think>", "", "B <think>"),
        (False, "", "", ""),
        (True, "cut off", "cut off", ""),
        (True, "a </thin b</think>c</think>d", "a </thin b", "c</think>d"),
        (True, "\n\n</think>\n\nonly", "", "only"),
    ],
)
def test_reasoning_is_separated_without_the_space_beside_its_tags(
    inside: bool, text: str, reasoning: str, content: str
) -> None:
    delta = parsed(ReasoningParser(PlainText(), inside=inside), text)
    assert (delta.reasoning, delta.content) == (reasoning, content)


def test_calls_after_reasoning_are_read_and_calls_inside_it_are_text() -> None:
    parser = ReasoningParser(PARSERS["hermes"](), inside=True)
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    delta = parsed(parser, f"{call}</think>\n{call}")
    assert delta == Delta("", call, (ToolCallDelta(0, "f", "{}"),))


def test_arguments_are_passed_on_before_the_call_ends() -> None:
    parser = PARSERS["hermes"]()
    assert parser.push('<tool_call>\n{"name": "f"').calls == ()
    assert parser.push(', "arguments": {"a"').calls == (ToolCallDelta(0, "f", '{"a"'),)
    assert parser.push(": 1").calls == (ToolCallDelta(0, None, ": 1"),)
    assert parser.push("}}\n</tool_call>").calls == (ToolCallDelta(0, None, "}"),)


@pytest.mark.parametrize(
    ("name", "text", "content", "calls"),
    [
        (
            "hermes",
            'Hi.\n<tool_call>\n{"name": "f", "arguments": "{\\"a\\": 1}"}\n</tool_call>',
            "Hi.",
            [("f", '{"a": 1}')],
        ),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
        ("hermes", "<tool_call>nonsense</tool_call>", "<tool_call>nonsense</tool_call>", []),
        ("llama3_json", '<|python_tag|>{"name": "f", "parameters": {}}', "", [("f", "{}")]),
        ("llama3_json", '{"answer": 5}', '{"answer": 5}', []),
        ("llama3_json", 'It is {"name": "f"}', 'It is {"name": "f"}', []),
        (
            "deepseek_v31",
            "Hi<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜>",
            "Hi",
            [("f", "{}")],
        ),
        ("pythonic", '[f(a=1, b="x"), g()]', "", [("f", '{"a": 1, "b": "x"}'), ("g", "{}")]),
        ("pythonic", "[1, 2]", "[1, 2]", []),
        ("pythonic", "[f(__import__('os'))]", "[f(__import__('os'))]", []),
    ],
)
def test_published_formats_are_read(
    name: str, text: str, content: str, calls: list[tuple[str, str]]
) -> None:
    delta = parsed(PARSERS[name](), text)
    assert delta.content == content
    assert [(call.name, call.arguments) for call in delta.calls] == calls


def test_enforced_calls_are_read() -> None:
    listed = parsed(ListedCalls(), '[{"name": "f", "parameters": {"a": 1}}, {"name": "g"}]')
    assert [(call.name, call.arguments) for call in listed.calls] == [
        ("f", '{"a": 1}'),
        ("g", "{}"),
    ]
    assert parsed(NamedCall("f"), '{"a": 1}').calls == (ToolCallDelta(0, "f", '{"a": 1}'),)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("<｜tool▁calls▁begin｜>... ```json", "deepseek_v3"),
        ("<｜tool▁calls▁begin｜>", "deepseek_v31"),
        ("<tool_call>", "hermes"),
        ("<|python_tag|>", "llama3_json"),
        ("<|user|>", None),
    ],
)
def test_the_template_decides_about_the_format(template: str, name: str | None) -> None:
    assert parser_of_template(template) == name
