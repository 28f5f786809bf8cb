"""Objects of `/v1/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from r1_runtime.engine.messages import Output
from r1_runtime.server.api.generation_request import GenerationRequest
from r1_runtime.server.output.builder import Event, Head
from r1_runtime.server.output.logprobs import CompletionLogprobs, TokenText, prompt_logprobs
from r1_runtime.server.output.usage import UsageCounter

_KIND = "text_completion"


class CompletionBuilder:
    """Objects of one completion request.

    Args:
        head: fields of every object.
        request: decides about echo, log-probabilities and usage.
        prompts: text and tokens of the prompt of each choice.
        text_of: text of a single token.
    """

    ends_with_done = True

    def __init__(
        self,
        head: Head,
        request: GenerationRequest,
        prompts: Sequence[tuple[str, tuple[int, ...]]],
        text_of: TokenText,
    ) -> None:
        self._head = head
        self._request = request
        self._prompts = prompts
        self._text_of = text_of
        self._logprobs = [CompletionLogprobs(text_of) for _ in prompts]
        self._started: set[int] = set()

    def events(self, index: int, output: Output, usage: UsageCounter) -> list[Event]:
        choice = self._choice(index, output)
        shown = ("text", "finish_reason", "logprobs", "token_ids")
        if not any(choice.get(name) for name in shown):
            return []
        body = self._head.object(_KIND, [choice])
        if self._request.include_usage:
            body["usage"] = usage.as_json() if self._request.continuous_usage else None
        return [Event(body)]

    def last_events(self, usage: UsageCounter) -> list[Event]:
        if not self._request.include_usage:
            return []
        return [Event(self._head.object(_KIND, []) | {"usage": usage.as_json()})]

    def full(self, outputs: list[Output], usage: UsageCounter) -> dict[str, Any]:
        choices = [self._choice(index, output) for index, output in enumerate(outputs)]
        return self._head.object(_KIND, choices) | {"usage": usage.as_json()}

    def _choice(self, index: int, output: Output) -> dict[str, Any]:
        """The choice of new output; the first one of a choice has the echo."""
        text, entries = output.text, output.logprobs
        if self._request.no_output:
            text, entries = "", ()
        first_token = None
        if self._request.echo and index not in self._started:
            prompt, tokens = self._prompts[index]
            text, entries = prompt + text, (*output.prompt_logprobs, *entries)
            first_token = tokens[0]
        first = index not in self._started
        self._started.add(index)
        with_logprobs = self._request.params.logprobs is not None
        has_entries = bool(entries) or first_token is not None
        choice: dict[str, Any] = {
            "index": index,
            "text": text,
            "finish_reason": None if output.finish is None else output.finish.value,
            "logprobs": self._logprobs[index].part(entries, first_token=first_token)
            if with_logprobs and has_entries
            else None,
        }
        if self._request.prompt_logprobs:
            choice["prompt_logprobs"] = prompt_logprobs(output.prompt_logprobs, self._text_of)
        if self._request.token_ids:
            choice["prompt_token_ids"] = list(self._prompts[index][1]) if first else None
            choice["token_ids"] = [] if self._request.no_output else list(output.token_ids)
        return choice
