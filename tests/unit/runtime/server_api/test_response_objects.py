"""Objects and events of `/v1/responses`, from outputs of the engine."""

from __future__ import annotations

from typing import Any

import pytest

from r1_runtime.engine.messages import Output
from r1_runtime.engine.sequence import Finish
from r1_runtime.output_parsing.delta import OutputParser, PlainText
from r1_runtime.output_parsing.reasoning import ReasoningParser
from r1_runtime.output_parsing.reasoning_tokens import ReasoningTokens
from r1_runtime.output_parsing.tool_calls import PARSERS, ListedCalls, NamedCall
from r1_runtime.server.api.responses_body.body import parse_responses
from r1_runtime.server.output.builder import Head
from r1_runtime.server.output.responses import ResponsesBuilder
from r1_runtime.server.output.usage import UsageCounter

TOOL = {"type": "function", "name": "f"}
CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
TEXT = f"why</think>so{CALL}{CALL}"


def output(text: str, finish: Finish | None = None) -> Output:
    return Output("r", text, 1, 3, finish=finish)


def builder(parser: OutputParser, **fields: Any) -> ResponsesBuilder:
    body = {"model": "m", "input": "x", "tools": [TOOL]} | fields
    return ResponsesBuilder(Head("resp_1", "m", 7), parse_responses(body), parser)


def reasoning_calls() -> OutputParser:
    return ReasoningParser(PARSERS["hermes"](), inside=True)


def usage() -> UsageCounter:
    return UsageCounter([2], 1)


def streamed(made: ResponsesBuilder, texts: list[str], finish: Finish) -> list[dict[str, Any]]:
    events = [event for text in texts for event in made.events(0, output(text), usage())]
    events += made.events(0, output("", finish), usage())
    events += made.last_events(usage())
    assert [event.name for event in events] == [event.data["type"] for event in events]
    return [event.data for event in events]


def test_reasoning_text_and_calls_are_items_in_their_order() -> None:
    body = builder(reasoning_calls()).full([output(TEXT, Finish.STOP)], usage())
    kinds = [item["type"] for item in body["output"]]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    assert body["output"][0]["content"] == [{"type": "reasoning_text", "text": "why"}]
    assert body["output"][1]["content"][0]["text"] == "so"
    calls = body["output"][2:]
    assert [(call["name"], call["arguments"]) for call in calls] == [("f", '{"a": 1}')] * 2
    assert len({call["call_id"] for call in calls}) == 2
    assert len({item["id"] for item in body["output"]}) == 4
    assert {item["status"] for item in body["output"]} == {"completed"}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_streamed_items_equal_those_of_the_whole_response(size: int) -> None:
    chunks = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    events = streamed(builder(reasoning_calls()), chunks, Finish.STOP)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    last = events[-1]
    assert last["type"] == "response.completed"
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert last["response"]["output"] == done
    texts: dict[int, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            place = event["output_index"]
            texts[place] = texts.get(place, "") + event["delta"]
    assert texts == {0: "why", 1: "so", 2: '{"a": 1}', 3: '{"a": 1}'}
    finished = [
        event for event in events if event["type"] == "response.function_call_arguments.done"
    ]
    assert [(event["name"], event["arguments"]) for event in finished] == [("f", '{"a": 1}')] * 2


def test_an_item_is_announced_empty_and_before_its_deltas() -> None:
    events = streamed(builder(PARSERS["hermes"]()), [CALL], Finish.STOP)
    names = [event["type"].removeprefix("response.") for event in events]
    assert names == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert events[2]["item"]["arguments"] == ""
    assert events[2]["item"]["status"] == "in_progress"


def test_a_response_with_calls_alone_has_no_empty_message() -> None:
    for parser in (PARSERS["hermes"](), ListedCalls(), NamedCall("f")):
        text = CALL if not isinstance(parser, NamedCall | ListedCalls) else ""
        text = '[{"name": "f", "parameters": {}}]' if isinstance(parser, ListedCalls) else text
        body = builder(parser).full([output(text, Finish.STOP)], usage())
        assert [item["type"] for item in body["output"]] == ["function_call"]


@pytest.mark.parametrize("text", ["", "why</think>"])
def test_a_response_without_text_has_an_empty_message(text: str) -> None:
    parser = ReasoningParser(PlainText(), inside=True) if text else PlainText()
    body = builder(parser).full([output(text, Finish.STOP)], usage())
    assert body["output"][-1]["type"] == "message"
    assert body["output"][-1]["content"][0]["text"] == ""


def test_parallel_tool_calls_false_keeps_the_first_call() -> None:
    made = builder(PARSERS["hermes"](), parallel_tool_calls=False)
    body = made.full([output(CALL + CALL, Finish.STOP)], usage())
    assert [item["type"] for item in body["output"]] == ["function_call"]


def test_include_reasoning_false_leaves_out_the_reasoning_item() -> None:
    made = builder(ReasoningParser(PlainText(), inside=True), include_reasoning=False)
    body = made.full([output("why</think>so", Finish.STOP)], usage())
    assert [item["type"] for item in body["output"]] == ["message"]


def test_an_output_at_its_limit_is_incomplete() -> None:
    body = builder(PlainText()).full([output("a", Finish.LENGTH)], usage())
    assert (body["status"], body["output"][0]["status"]) == ("incomplete", "incomplete")
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


def test_tokens_of_the_reasoning_are_counted_with_their_tags() -> None:
    counts = UsageCounter([2], 1, reasoning=[ReasoningTokens(8, 9, inside=True)])
    for tokens in ((1, 2), (9, 3), (9, 8, 4)):
        counts.add(0, Output("r", "x", len(tokens), 3, token_ids=tokens))
    assert counts.reasoning_tokens == 3
    assert counts.as_json()["completion_tokens_details"] == {"reasoning_tokens": 3}
    without = ReasoningTokens(8, 9, inside=False)
    without.add((1, 2, 9))
    assert without.count == 0
    begun = ReasoningTokens(8, 9, inside=False)
    begun.add((8, 1, 9, 2))
    assert begun.count == 3
