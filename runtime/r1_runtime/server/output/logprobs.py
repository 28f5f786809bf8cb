"""Log-probabilities in OpenAI's two forms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from r1_runtime.engine.messages import TokenLogprobs

TokenText = Callable[[int], str]
_LEAST = -9999.0  # JSON has no infinity


def chat_logprobs(entries: Sequence[TokenLogprobs], text_of: TokenText) -> dict[str, Any]:
    """`logprobs` of a chat's choice or chunk."""
    content = [
        _token_object(entry.token, entry.logprob, text_of)
        | {"top_logprobs": [_token_object(token, value, text_of) for token, value in entry.top]}
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def _token_object(token: int, logprob: float, text_of: TokenText) -> dict[str, Any]:
    text = text_of(token)
    return {
        "token": text,
        "logprob": max(logprob, _LEAST),
        "bytes": list(text.encode("utf-8", "replace")),
    }


def prompt_logprobs(
    entries: Sequence[TokenLogprobs], text_of: TokenText
) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each prompt token its value and the most probable ones.

    The first token has none. The rank of a token that is not among the most probable is unknown.
    """
    return [None, *(_by_token(entry, text_of) for entry in entries)]


def _by_token(entry: TokenLogprobs, text_of: TokenText) -> dict[str, Any]:
    ranked = [(token, value, rank) for rank, (token, value) in enumerate(entry.top, 1)]
    if entry.token not in {token for token, _ in entry.top}:
        ranked.append((entry.token, entry.logprob, 0))
    return {
        str(token): {
            "logprob": max(value, _LEAST),
            "rank": rank or None,
            "decoded_token": text_of(token),
        }
        for token, value, rank in ranked
    }


class CompletionLogprobs:
    """`logprobs` of a completion's choice, in parts for a stream.

    As in vLLM, `top_logprobs` has the token itself also where it is not among the most probable.
    """

    def __init__(self, text_of: TokenText) -> None:
        self._text_of = text_of
        self._offset = 0

    def part(
        self, entries: Sequence[TokenLogprobs], *, first_token: int | None = None
    ) -> dict[str, Any]:
        """The object of further tokens; `first_token` is a prompt's first one, without a value."""
        part: dict[str, Any] = {
            "text_offset": [],
            "token_logprobs": [],
            "tokens": [],
            "top_logprobs": [],
        }
        if first_token is not None:
            self._add(part, first_token, None, None)
        for entry in entries:
            top = {self._text_of(token): max(value, _LEAST) for token, value in entry.top}
            top.setdefault(self._text_of(entry.token), max(entry.logprob, _LEAST))
            self._add(part, entry.token, max(entry.logprob, _LEAST), top)
        return part

    def _add(
        self, part: dict[str, Any], token: int, logprob: float | None, top: dict[str, float] | None
    ) -> None:
        text = self._text_of(token)
        part["text_offset"].append(self._offset)
        part["token_logprobs"].append(logprob)
        part["tokens"].append(text)
        part["top_logprobs"].append(top)
        self._offset += len(text)
