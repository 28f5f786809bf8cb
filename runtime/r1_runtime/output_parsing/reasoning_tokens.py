"""The number of an output's tokens that are reasoning."""

from __future__ import annotations

from collections.abc import Iterable


class ReasoningTokens:
    """Counts the tokens of the reasoning, with its tags.

    Args:
        begin: the token `<think>`, if the vocabulary has it.
        end: the token `</think>`.
        inside: whether the prompt ends inside of the reasoning.
    """

    def __init__(self, begin: int | None, end: int, *, inside: bool) -> None:
        self._begin = begin
        self._end = end
        self._inside = inside
        self._over = False
        self.count = 0

    def add(self, tokens: Iterable[int]) -> None:
        """Count further tokens of the output."""
        for token in tokens:
            if self._over:
                return
            self._inside = self._inside or token == self._begin
            self.count += self._inside
            self._over = self._inside and token == self._end
