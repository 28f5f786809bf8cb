"""What the server knows of the loaded model: tokenizer, limits, formats of reasoning and calls."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.errors import RequestError
from r1_runtime.generation_config import GenerationDefaults
from r1_runtime.output_parsing import reasoning
from r1_runtime.output_parsing.delta import OutputParser, PlainText
from r1_runtime.output_parsing.reasoning_tokens import ReasoningTokens
from r1_runtime.output_parsing.tool_calls import (
    PARSERS,
    ListedCalls,
    NamedCall,
    parser_of_template,
)
from r1_runtime.server.api.generation_request import GenerationRequest
from r1_runtime.server.limits import Limits
from r1_runtime.server.parser_options import ParserOptions
from r1_runtime.structured.grammar import GrammarCompiler
from r1_runtime.structured.thinking import ThinkingConstraint

if TYPE_CHECKING:
    from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer

_TAIL = 16  # tokens of a prompt that may hold the begin tag of the reasoning

# Templates that write the arguments of an earlier call as JSON expect an object, others JSON text.
_WRITES_OBJECTS = re.compile(r"arguments['\"]?\]?\s*\|\s*(tojson|items)")


class ServedModel:
    """The loaded model without its engine.

    Args:
        tokenizer: of the checkpoint.
        limits: of requests.
        defaults: sampling parameters that the model's authors recommend.
        options: formats of reasoning and calls.
    """

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        limits: Limits,
        defaults: GenerationDefaults,
        options: ParserOptions,
    ) -> None:
        self.tokenizer = tokenizer
        self.limits = limits
        self.defaults = defaults
        self.grammars = GrammarCompiler(tokenizer.as_json, limits.vocabulary, tokenizer.eos_ids)
        self._texts: dict[int, str] = {}
        self._arguments_are_objects = bool(_WRITES_OBJECTS.search(tokenizer.template))
        self._begin = tokenizer.token_id(reasoning.BEGIN)
        self._end = tokenizer.token_id(reasoning.END)
        known = self._end is not None or reasoning.BEGIN in tokenizer.template
        self.reasons = options.reasoning_parser == "think" or (
            options.reasoning_parser == "auto" and known
        )
        chosen = options.tool_call_parser
        self.tool_parser = parser_of_template(tokenizer.template) if chosen == "auto" else chosen
        if self.tool_parser == "none":
            self.tool_parser = None

    def token_text(self, token: int) -> str:
        """The text of a single token, special or not."""
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = self.tokenizer.decode_all((token,))
        return text

    def history(self, messages: tuple[Mapping[str, Any], ...]) -> list[Mapping[str, Any]]:
        """Messages as the chat template expects them: arguments of calls as text or as objects."""
        if not self._arguments_are_objects:
            return list(messages)
        return [_with_objects(message) for message in messages]

    def begins_inside(self, prompt: list[int]) -> bool:
        """Whether a prompt ends inside of the reasoning."""
        if not self.reasons:
            return False
        tail = self.tokenizer.decode_all(prompt[-_TAIL:])
        return tail.rfind(reasoning.BEGIN) > tail.rfind(reasoning.END)

    def parser(self, request: GenerationRequest, *, inside: bool) -> OutputParser:
        """The parser of one output of a chat."""
        content = self._content_parser(request)
        return reasoning.ReasoningParser(content, inside=inside) if self.reasons else content

    def reasoning_tokens(self, *, inside: bool) -> ReasoningTokens | None:
        """The counter of one output's reasoning tokens, if the model reasons between two tokens."""
        if not self.reasons or self._end is None:
            return None
        return ReasoningTokens(self._begin, self._end, inside=inside)

    def _content_parser(self, request: GenerationRequest) -> OutputParser:
        tools = request.tools
        if tools is None:
            return PlainText()
        if tools.named:
            return NamedCall(tools.choice)
        if tools.choice == "required":
            return ListedCalls()
        if self.tool_parser is None:
            raise RequestError(
                "tools: the chat template of this model has no format for calls; use tool_choice "
                "required, or start the server with --tool-call-parser "
                f"({', '.join(PARSERS)})",
                param="tools",
                code="unsupported_parameter",
            )
        return PARSERS[self.tool_parser]()

    def constraint(self, request: GenerationRequest, *, inside: bool) -> TokenConstraint | None:
        """The constraint of one output.

        Raises:
            RequestError: 400: a grammar does not compile, or this model has no reasoning to limit.
        """
        wanted, content = request.format, None
        if wanted is not None:
            content = self.grammars.compile(wanted.kind, wanted.value, wanted.param)
        if request.thinking_budget is None and not inside:
            return content
        if self._end is None or not self.reasons:
            if request.thinking_budget is None:
                return content
            raise RequestError(
                f"thinking_token_budget: this model has no token {reasoning.END}",
                param="thinking_token_budget",
                code="unsupported_parameter",
            )
        if request.thinking_budget is None and content is None:
            return None
        return ThinkingConstraint(
            self._begin,
            self._end,
            self.limits.vocabulary,
            inside=inside,
            budget=request.thinking_budget,
            content=content,
        )

    def decoder(self, request: GenerationRequest) -> partial[str] | None:
        """How output tokens become text; None for the engine's function.

        Some tokenizers mark the tokens around calls as special.
        """
        return None if request.tools is None else partial(self.tokenizer.decode_all)


def _with_objects(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message whose calls have arguments as objects, where they are JSON objects."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
