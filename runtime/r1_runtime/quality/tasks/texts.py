"""Prompts as tokens."""

from __future__ import annotations

from typing import Protocol


class Tokenizer(Protocol):
    """The part of a tokenizer that an evaluation uses."""

    def encode(self, text: str, max_tokens: int | None = None) -> list[int]:
        """Tokens of a text, with the model's begin token where it has one."""


def continued(tokenizer: Tokenizer, prompt: str, answer: str) -> tuple[list[int], int]:
    """Tokens of a prompt with its continuation, and the index of the first token of the continuation.

    The text is tokenized as a whole: a token may reach over the boundary, and then it belongs to the
    continuation.
    """
    tokens, alone = tokenizer.encode(prompt + answer), tokenizer.encode(prompt)
    first = 0
    for one, other in zip(tokens, alone, strict=False):
        if one != other:
            break
        first += 1
    return tokens, max(1, min(first, len(tokens) - 1))
