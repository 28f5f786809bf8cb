"""Drives a backend by plans of chosen shape: prompts in chunks, single tokens, several sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.sampling_plan import SamplingPlan, greedy_plan
from r1_runtime.backends.step_plan import Backend, StepPlan, StepResult

BLOCK_SIZE = 16
BLOCK_COUNT = 64

Float32 = NDArray[np.float32]


@dataclass(slots=True)
class PagedSequence:
    """Tokens of a sequence, of which the first `computed` are in the cache, and its blocks."""

    tokens: list[int]
    blocks: list[int]
    computed: int = 0
    logprobs: list[Float32] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence of a step: compute tokens [start, end) of `tokens`."""

    tokens: Sequence[int]
    start: int
    end: int
    blocks: Sequence[int] = field(default=())


def step_plan(
    rows: Sequence[Row], block_size: int = BLOCK_SIZE, sampling: SamplingPlan | None = None
) -> StepPlan:
    """A step whose every row has an output."""

    def ints(values: Sequence[int]) -> NDArray[np.int32]:
        return np.array(values, np.int32)

    blocks = [list(row.blocks)[: -(-row.end // block_size)] for row in rows]
    tokens = [token for row in rows for token in row.tokens[row.start : row.end]]
    count = len(tokens)
    return StepPlan(
        tokens=ints(tokens),
        positions=ints([at for row in rows for at in range(row.start, row.end)]),
        query_starts=ints([0, *np.cumsum([row.end - row.start for row in rows])]),
        context_lengths=ints([row.end for row in rows]),
        block_starts=ints([0, *np.cumsum([len(each) for each in blocks])]),
        blocks=ints([block for each in blocks for block in each]),
        output_rows=ints(list(range(count))),
        sampling=sampling or greedy_plan(count),
    )


def with_last_outputs(plan: StepPlan) -> StepPlan:
    """The same step with an output for the last row of each sequence only."""
    last = plan.query_starts[1:] - 1
    return replace(plan, output_rows=last, sampling=greedy_plan(len(last)))


@dataclass(frozen=True, slots=True)
class Rows:
    """The next `count` tokens of a sequence; `outputs` of them, from the last, have logits."""

    sequence: PagedSequence
    count: int
    outputs: int


def scoring_plan(parts: Sequence[Rows], vocabulary: int) -> StepPlan:
    """A greedy plan that returns the log-probabilities of all tokens in each output row."""
    sequences = [(rows.sequence, rows.sequence.computed + rows.count) for rows in parts]
    plan = step_plan([Row(one.tokens, one.computed, end, one.blocks) for one, end in sequences])
    outputs = [
        row
        for rows, end in zip(parts, plan.query_starts[1:].tolist(), strict=True)
        for row in range(end - rows.outputs, end)
    ]
    top_counts = np.full(len(outputs), vocabulary, np.int32)
    return replace(
        plan,
        output_rows=np.array(outputs, np.int32),
        sampling=replace(greedy_plan(len(outputs)), top_counts=top_counts),
    )


class PagedDriver:
    """A backend and the free blocks of its cache, in an order that is not that of their numbers."""

    def __init__(self, backend: Backend, vocabulary: int) -> None:
        self.backend = backend
        self._vocabulary = vocabulary
        order = np.random.default_rng(3).permutation(BLOCK_COUNT)
        self._free = [int(block) for block in order]

    def sequence(self, prompt: Sequence[int], longest: int) -> PagedSequence:
        """A sequence with blocks for `longest` tokens."""
        blocks = [self._free.pop() for _ in range(-(-longest // BLOCK_SIZE))]
        return PagedSequence(list(prompt), blocks)

    def free(self, sequence: PagedSequence) -> None:
        self._free += sequence.blocks

    def step(self, parts: Sequence[Rows]) -> StepResult:
        """Compute the rows; each sequence collects the log-probabilities [vocab] of its outputs."""
        result = self.backend.step(scoring_plan(parts, self._vocabulary))
        output = 0
        for rows in parts:
            rows.sequence.computed += rows.count
            for _ in range(rows.outputs):
                logprobs = np.empty(self._vocabulary, np.float32)
                logprobs[result.top_tokens[output]] = result.top_logprobs[output]
                rows.sequence.logprobs.append(logprobs)
                output += 1
        return result

    def generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, budget: int
    ) -> list[PagedSequence]:
        """Greedy generation of `new_tokens` after each prompt, all together.

        A step has one row of every sequence that decodes and the next rows of prompts, at most
        `budget` rows in all.
        """
        sequences = [self.sequence(prompt, len(prompt) + new_tokens) for prompt in prompts]
        lengths = [len(prompt) + new_tokens for prompt in prompts]
        while True:
            parts: list[Rows] = []
            room = budget
            for sequence, length in zip(sequences, lengths, strict=True):
                count = min(room, len(sequence.tokens) - sequence.computed)
                if len(sequence.tokens) < length and count:
                    last = sequence.computed + count == len(sequence.tokens)
                    parts.append(Rows(sequence, count, int(last)))
                    room -= count
            if not parts:
                return sequences
            result = self.step(parts)
            sampled = iter(result.tokens)
            for rows in parts:
                if rows.outputs:
                    rows.sequence.tokens.append(int(next(sampled)))
