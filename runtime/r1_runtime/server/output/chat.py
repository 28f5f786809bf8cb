"""Objects of `/v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1_runtime.engine.messages import Output
from r1_runtime.engine.sequence import Finish
from r1_runtime.output_parsing.delta import Delta, OutputParser, ToolCallDelta
from r1_runtime.server.api.generation_request import GenerationRequest
from r1_runtime.server.output.builder import Event, Head, call_id
from r1_runtime.server.output.logprobs import TokenText, chat_logprobs, prompt_logprobs
from r1_runtime.server.output.parsed_output import parsed_output
from r1_runtime.server.output.usage import UsageCounter

_CHUNK = "chat.completion.chunk"


class ChatBuilder:
    """Objects of one chat.

    Args:
        head: fields of every object.
        request: decides about log-probabilities, reasoning, tools and usage.
        parsers: one for each choice.
        text_of: text of a single token.
        prompt: tokens of the prompt, for `return_token_ids`.
    """

    ends_with_done = True

    def __init__(
        self,
        head: Head,
        request: GenerationRequest,
        parsers: Sequence[OutputParser],
        text_of: TokenText,
        prompt: Sequence[int] = (),
    ) -> None:
        self._head = head
        self._request = request
        self._parsers = parsers
        self._text_of = text_of
        self._prompt = prompt
        self._started: set[int] = set()
        self._called: set[int] = set()

    def events(self, index: int, output: Output, usage: UsageCounter) -> list[Event]:
        objects = []
        with_tokens = self._request.token_ids
        if index not in self._started:
            self._started.add(index)
            objects.append(self._chunk(index, {"role": "assistant", "content": ""}))
            if with_tokens:
                objects[0]["prompt_token_ids"] = list(self._prompt)
        delta = _delta_object(self._parsed(index, output))
        logprobs = self._logprobs(output)
        finish = self._finish(index, output)
        if delta or finish or logprobs or with_tokens:
            objects.append(self._chunk(index, delta, finish, logprobs))
            if with_tokens:
                objects[-1]["choices"][0]["token_ids"] = list(output.token_ids)
        if self._request.include_usage:
            counts = usage.as_json() if self._request.continuous_usage else None
            objects = [each | {"usage": counts} for each in objects]
        return [Event(each) for each in objects]

    def last_events(self, usage: UsageCounter) -> list[Event]:
        if not self._request.include_usage:
            return []
        return [Event(self._head.object(_CHUNK, []) | {"usage": usage.as_json()})]

    def full(self, outputs: list[Output], usage: UsageCounter) -> dict[str, Any]:
        choices = [self._choice(index, output) for index, output in enumerate(outputs)]
        body = self._head.object("chat.completion", choices) | {"usage": usage.as_json()}
        if self._request.prompt_logprobs:
            body["prompt_logprobs"] = prompt_logprobs(outputs[0].prompt_logprobs, self._text_of)
        if self._request.token_ids:
            body["prompt_token_ids"] = list(self._prompt)
        return body

    def _parsed(self, index: int, output: Output) -> Delta:
        """The new parts of the message."""
        delta = parsed_output(self._parsers[index], output, self._request)
        if delta.calls:
            self._called.add(index)
        return delta

    def _choice(self, index: int, output: Output) -> dict[str, Any]:
        delta = self._parsed(index, output)
        hidden = not delta.content and (delta.calls or delta.reasoning)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if hidden else delta.content,
            "refusal": None,
        }
        if delta.reasoning:
            message |= {"reasoning": delta.reasoning, "reasoning_content": delta.reasoning}
        if delta.calls:
            message["tool_calls"] = _whole_calls(delta.calls)
        choice = {
            "index": index,
            "message": message,
            "finish_reason": self._finish(index, output),
            "logprobs": self._logprobs(output),
        }
        return choice | ({"token_ids": list(output.token_ids)} if self._request.token_ids else {})

    def _finish(self, index: int, output: Output) -> str | None:
        """The finish reason; a call that the model chose itself ends with `tool_calls`."""
        tools = self._request.tools
        chosen = tools is not None and not tools.named and index in self._called
        if output.finish is Finish.STOP and chosen:
            return "tool_calls"
        return None if output.finish is None else output.finish.value

    def _logprobs(self, output: Output) -> dict[str, Any] | None:
        if self._request.params.logprobs is None or not output.logprobs:
            return None
        return chat_logprobs(output.logprobs, self._text_of)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        finish: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return self._head.object(_CHUNK, [choice])


def _delta_object(delta: Delta) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if delta.reasoning:
        parts |= {"reasoning": delta.reasoning, "reasoning_content": delta.reasoning}
    if delta.content:
        parts["content"] = delta.content
    if delta.calls:
        parts["tool_calls"] = [_call_part(call) for call in delta.calls]
    return parts


def _call_part(call: ToolCallDelta) -> dict[str, Any]:
    if call.name is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call_id(), "type": "function", "function": function}


def _whole_calls(calls: Sequence[ToolCallDelta]) -> list[dict[str, Any]]:
    """Calls whose parts have been joined."""
    return [
        {
            "id": call_id(),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in calls
    ]
