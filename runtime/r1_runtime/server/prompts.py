"""Tokenisation of prompts outside the event loop.

Tokenising takes about one second per megabyte, and the event loop also serves the kubelet's probes.
Long prompts are tokenised one at a time in a thread of their own: they delay no short prompt and use
memory once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from r1_runtime.errors import RequestError
from r1_runtime.server.requests import GenerationRequest

if TYPE_CHECKING:
    from r1_runtime.tokenizer.chat_tokenizer import ChatTokenizer

_LONG_BYTES = 64 * 2**10
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request and of the server.

    Attributes:
        max_model_len: tokens of prompt and output together.
        max_in_flight: requests running or waiting.
        vocabulary: number of tokens; valid token numbers are below it.
    """

    max_model_len: int
    max_in_flight: int
    vocabulary: int


class PromptThreads:
    """Two worker threads: one for long inputs, one for all others."""

    def __init__(self) -> None:
        self._short = ThreadPoolExecutor(1, thread_name_prefix="prompt-short")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="prompt-long")

    async def run(self, size: int, work: Callable[[], _T]) -> _T:
        """Return the result of `work`, which handles an input of `size` bytes."""
        pool = self._long if size > _LONG_BYTES else self._short
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def prompt_tokens(
    request: GenerationRequest, tokenizer: ChatTokenizer, limits: Limits
) -> list[int]:
    """The prompt's tokens.

    Raises:
        RequestError: 400: the prompt is empty or too long, or has a token outside the vocabulary.
    """
    longest = limits.max_model_len
    if request.messages is not None:
        field = "messages"
        tokens = tokenizer.encode_chat(request.messages, request.template_variables, longest)
    elif request.text is not None:
        field, tokens = "prompt", tokenizer.encode(request.text, longest)
    else:
        field, tokens = "prompt", list(request.tokens or ())
        if max(tokens, default=0) >= limits.vocabulary:
            raise RequestError(
                f"prompt has a token number of {limits.vocabulary} or more", param="prompt"
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
