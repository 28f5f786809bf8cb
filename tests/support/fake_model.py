"""A deterministic model with a paged cache, in plain Python.

The state after a token depends on all tokens before it, and is read from the cache slots that the
sequence's block table names. A wrong block, a block that another sequence has overwritten, or a
skipped token therefore changes the generated tokens or fails an assertion.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens

from r1_runtime.engine.messages import SampledRow
from r1_runtime.engine.scheduler import Step
from r1_runtime.engine.sequence import Sequence

_START = 7


def _after(state: int, token: int) -> int:
    return (state * 1_000_003 + token + 1) % (2**61 - 1)


def next_token(state: int, vocabulary: int) -> int:
    return (state >> 7) % vocabulary


def generated(prompt: Tokens[int], count: int, vocabulary: int) -> list[int]:
    """The model's `count` tokens after a prompt, without a cache."""
    state, out = _START, []
    for token in prompt:
        state = _after(state, token)
    for _ in range(count):
        out.append(next_token(state, vocabulary))
        state = _after(state, out[-1])
    return out


class FakeModel:
    """Computes steps on a cache of `blocks` blocks.

    Attributes:
        computed_tokens: rows computed so far.
    """

    def __init__(self, blocks: int, block_size: int, vocabulary: int) -> None:
        self._size = block_size
        self._vocabulary = vocabulary
        self._slots: list[int | None] = [None] * (blocks * block_size)
        self.computed_tokens = 0

    def execute(self, step: Step) -> list[SampledRow]:
        """Compute the step; the tokens sampled after each last token and each draft."""
        sampled: list[SampledRow] = []
        for chunk in step.chunks:
            sequence = chunk.sequence
            state = self._read(sequence, chunk.start)
            for row, token in enumerate(chunk.tokens):
                state = _after(state, token)
                self._slots[self._slot(sequence, chunk.start + row)] = state
                if chunk.samples and row >= chunk.count - 1:
                    sampled.append(SampledRow(sequence, next_token(state, self._vocabulary)))
            self.computed_tokens += chunk.rows
        return sampled

    def release(self, sequence: Sequence) -> None:
        """The model has no state of a sequence beside the cache."""

    def _slot(self, sequence: Sequence, position: int) -> int:
        return sequence.blocks[position // self._size] * self._size + position % self._size

    def _read(self, sequence: Sequence, length: int) -> int:
        """The state after the first `length` tokens; all of their slots must be right."""
        state = _START
        for at in range(length):
            state = _after(state, sequence.tokens[at])
            assert self._slots[self._slot(sequence, at)] == state, "a cache slot has other content"
        return state
