"""Parsers of reasoning and tool calls: the chunks of a text have no effect on the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_runtime.output_parsing.delta import Delta, OutputParser, PlainText
from r1_runtime.output_parsing.reasoning import ReasoningParser
from r1_runtime.output_parsing.tool_calls import PARSERS, ListedCalls, NamedCall

Make = Callable[[], OutputParser]
MAKERS: dict[str, Make] = {
    **PARSERS,
    "listed": ListedCalls,
    "named": partial(NamedCall, "f"),
    "reasoning": lambda: ReasoningParser(PlainText(), inside=False),
    "inside-reasoning": lambda: ReasoningParser(PlainText(), inside=True),
    "reasoning-hermes": lambda: ReasoningParser(PARSERS["hermes"](), inside=True),
    "reasoning-deepseek": lambda: ReasoningParser(PARSERS["deepseek_v3"](), inside=False),
}
CALL = '{"name": "f", "arguments": {"a": "}\\"<", "b": [1, {"c": 2}]}}'
PIECES = st.sampled_from(
    ["<think>", "</think>", "<tool_call>", "</tool_call>", "\n", " ", "a", "{", "}", "[", "]", '"']
    + [
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
    ]
    + ["<｜tool▁sep｜>", "function", "```json\n", "\n```", "<|python_tag|>", ";", "<", "</th", CALL]
    + ['{"name": "g"}', '{"parameters": 5, "name": "h"}', "\\", ":", ",", "f(a=1)", "日", "🙂"]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def parsed(make: Make, chunks: list[str]) -> Delta:
    parser = make()
    delta = Delta()
    for chunk in chunks:
        delta += parser.push(chunk)
    return delta + parser.finish()


def cut(text: str, places: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=120, deadline=None)
@given(text=TEXTS, places=st.lists(st.integers(0, 400), max_size=12))
def test_result_does_not_depend_on_the_chunks(name: str, text: str, places: list[int]) -> None:
    make = MAKERS[name]
    whole = parsed(make, [text])
    assert parsed(make, cut(text, places)) == whole
    assert parsed(make, list(text)) == whole


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=80, deadline=None)
@given(text=st.text("ab .,é日\n", min_size=1, max_size=30))
def test_text_without_markers_is_unchanged(name: str, text: str) -> None:
    delta = parsed(MAKERS[name], list(text))
    if name in ("listed", "named"):
        return
    assert not delta.calls
    inside = name in ("inside-reasoning", "reasoning-hermes")
    assert (delta.reasoning == text.strip()) if inside else (delta.content == text)


arguments = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


def written(name: str, calls: list[tuple[str, str]]) -> str:
    """Calls in the format of a model."""
    if name == "hermes":
        return "\n".join(
            f'<tool_call>\n{{"name": {json.dumps(call)}, "arguments": {given}}}\n</tool_call>'
            for call, given in calls
        )
    if name == "llama3_json":
        return "; ".join(
            f'{{"name": {json.dumps(call)}, "parameters": {given}}}' for call, given in calls
        )
    if name == "listed":
        inner = ", ".join(
            f'{{"parameters": {given}, "name": {json.dumps(call)}}}' for call, given in calls
        )
        return f"[{inner}]"
    fenced = name == "deepseek_v3"
    bodies = [
        f"function<｜tool▁sep｜>{call}\n```json\n{given}\n```"
        if fenced
        else f"{call}<｜tool▁sep｜>{given}"
        for call, given in calls
    ]
    inner = "\n".join(f"<｜tool▁call▁begin｜>{body}<｜tool▁call▁end｜>" for body in bodies)
    return f"<｜tool▁calls▁begin｜>{inner}<｜tool▁calls▁end｜>"


@pytest.mark.parametrize("name", ["hermes", "llama3_json", "deepseek_v3", "deepseek_v31", "listed"])
@settings(max_examples=80, deadline=None)
@given(
    calls=st.lists(st.tuples(st.sampled_from(["f", "get_weather", "a.b"]), arguments), min_size=1),
    places=st.lists(st.integers(0, 2000), max_size=12),
)
def test_written_calls_are_read_back(
    name: str, calls: list[tuple[str, dict[str, object]]], places: list[int]
) -> None:
    text = written(name, [(call, json.dumps(given)) for call, given in calls])
    delta = parsed(MAKERS[name], cut(text, places))
    assert [(call.index, call.name) for call in delta.calls] == [
        (index, call) for index, (call, _) in enumerate(calls)
    ]
    assert [json.loads(call.arguments) for call in delta.calls] == [given for _, given in calls]
    assert delta.content.strip() == ""
