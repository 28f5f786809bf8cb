"""A budget for reasoning tokens, and a constraint that begins after the reasoning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r1_runtime.engine.constraint import TokenConstraint


class ThinkingConstraint:
    """Ends the reasoning after a number of tokens; a `TokenConstraint`.

    Args:
        begin: the token `<think>`, if the vocabulary has it.
        end: the token `</think>`.
        vocabulary: number of logits.
        inside: whether the prompt ends inside of the reasoning.
        budget: tokens of reasoning at most; None for no limit.
        content: constraint of the tokens after the reasoning.
    """

    def __init__(
        self,
        begin: int | None,
        end: int,
        vocabulary: int,
        *,
        inside: bool,
        budget: int | None = None,
        content: TokenConstraint | None = None,
    ) -> None:
        self._begin = begin
        self._end = end
        self._inside = inside
        self._budget = budget
        self._content = content
        self._used = 0
        self._only_end = np.zeros(-(-vocabulary // 32), np.uint32)
        self._only_end[end // 32] = 1 << (end % 32)

    @property
    def param(self) -> str:
        if self._inside or self._content is None:
            return "thinking_token_budget"
        return self._content.param

    def mask(self) -> NDArray[np.uint32] | None:
        if not self._inside:
            return None if self._content is None else self._content.mask()
        if self._budget is not None and self._used >= self._budget:
            return self._only_end
        return None

    def accept(self, token: int) -> None:
        if self._inside:
            self._used += 1
            self._inside = token != self._end
        elif self._content is not None:
            self._content.accept(token)
        elif token == self._begin:
            self._inside = True

    @property
    def finished(self) -> bool:
        return not self._inside and self._content is not None and self._content.finished
