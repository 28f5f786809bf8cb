"""Preparation of requests outside the event loop: tokens, constraints, checks against the model.

Tokenising takes about one second per megabyte, and the event loop also serves the kubelet's probes.
Long prompts are tokenised one at a time in a thread of their own: they delay no short prompt and use
memory once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.errors import RequestError
from r1_runtime.output_parsing.delta import OutputParser
from r1_runtime.output_parsing.reasoning_tokens import ReasoningTokens
from r1_runtime.server.api.generation_request import GenerationRequest, Prompt, ToolRequest
from r1_runtime.server.served_model import ServedModel

_LONG_BYTES = 64 * 2**10
_T = TypeVar("_T")


class PromptThreads:
    """Two worker threads: one for long inputs, one for all others."""

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(1, thread_name_prefix="prompt-short")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="prompt-long")

    async def run(self, size: int, work: Callable[[], _T]) -> _T:
        """Return the result of `work`, which handles an input of `size` bytes."""
        pool = self._long if size > _LONG_BYTES else self._short
        return await asyncio.get_running_loop().run_in_executor(pool, work)


@dataclass(frozen=True, slots=True)
class PreparedOutput:
    """One output of a request, ready for the engine.

    Attributes:
        prompt: tokens.
        constraint: on the output's tokens.
        parser: of the output's text; chats only.
        reasoning: counter of reasoning tokens; chats with a model that reasons only.
    """

    prompt: tuple[int, ...]
    constraint: TokenConstraint | None
    parser: OutputParser | None
    reasoning: ReasoningTokens | None = None


def prepare(request: GenerationRequest, model: ServedModel) -> list[PreparedOutput]:
    """The outputs of a request: `n` of each prompt, in this order.

    Raises:
        RequestError: 400, naming the field.
    """
    _check_tokens(request, model)
    outputs = []
    for prompt in request.prompts:
        tokens = prompt_tokens(prompt, request.template_variables, request.tools, model)
        inside = prompt.messages is not None and model.begins_inside(tokens)
        for _ in range(request.n):
            constraint = model.constraint(request, inside=inside)
            parser = reasoning = None
            if prompt.messages is not None:
                parser = model.parser(request, inside=inside)
                reasoning = model.reasoning_tokens(inside=inside)
            outputs.append(PreparedOutput(tuple(tokens), constraint, parser, reasoning))
    return outputs


def prompt_tokens(
    prompt: Prompt,
    template_variables: Mapping[str, Any],
    tools: ToolRequest | None,
    model: ServedModel,
) -> list[int]:
    """The tokens of one prompt.

    Raises:
        RequestError: 400: the prompt is empty or too long, or has a token outside the vocabulary.
    """
    longest, tokenizer = model.limits.max_model_len, model.tokenizer
    if prompt.messages is not None:
        field = "messages"
        variables = dict(template_variables)
        if tools is not None:
            variables["tools"] = [dict(tool) for tool in tools.definitions]
        messages = model.history(prompt.messages)
        tokens = tokenizer.encode_chat(messages, variables, longest)
    elif prompt.text is not None:
        field, tokens = "prompt", tokenizer.encode(prompt.text, longest)
    else:
        field, tokens = "prompt", list(prompt.tokens or ())
        if max(tokens, default=0) >= model.limits.vocabulary:
            raise RequestError(
                f"prompt has a token number of {model.limits.vocabulary} or more",
                param="prompt",
                code="token_out_of_range",
            )
    if not tokens:
        raise RequestError(f"{field} is empty", param=field)
    if len(tokens) >= longest:
        raise RequestError(
            f"{field} has {len(tokens)} tokens; the maximum is {longest - 1}, which leaves one "
            f"token for the output (--max-model-len {longest})",
            param=field,
            code="context_length_exceeded",
        )
    return tokens


def _check_tokens(request: GenerationRequest, model: ServedModel) -> None:
    """Reject token numbers outside of the vocabulary."""
    params = request.params
    numbers = {
        "logit_bias": [token for token, _ in params.logit_bias],
        "stop_token_ids": params.stop_token_ids,
    }
    for field, tokens in numbers.items():
        if max(tokens, default=0) >= model.limits.vocabulary:
            raise RequestError(
                f"{field} has a token number of {model.limits.vocabulary} or more",
                param=field,
                code="token_out_of_range",
            )
