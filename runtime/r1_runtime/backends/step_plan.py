"""Input and output of one step, for every backend.

A step is ragged: rows are tokens, and the rows of a sequence are adjacent. All arrays are flat
int32 in compressed sparse row form, so that a step with prompts, single tokens and drafts of any
length is one shape. The scheduler's `Step` becomes a `StepPlan` in `engine/planner.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.sampling_plan import SamplingPlan, greedy_plan

Int32 = NDArray[np.int32]
_NONE = np.empty(0, np.int32)
_NO_HIDDEN = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of T rows from N sequences.

    Attributes:
        tokens: [T] token of each row.
        positions: [T] position of each row in its sequence.
        query_starts: [N + 1] first row of each sequence; the last entry is T.
        context_lengths: [N] tokens of each sequence after this step, its rows included.
        block_starts: [N + 1] first entry of each sequence in `blocks`.
        blocks: cache blocks of each sequence, in order of position.
        output_rows: [S] rows whose logits are computed, ascending.
        sampling: how each output row becomes a token; S entries.
        hidden_rows: [H] rows whose last hidden state is returned, ascending.
        next_tokens: [T] the token after each row, -1 where the step samples it. Only for a backend
            that drafts by the model's own layer (`--speculation mtp`); else empty.
        prompt_lengths: [N] position from which the rows of a sequence are generated tokens, which
            attend sparsely where that is on. Empty: a sequence with one row has a generated token.
        joined: the seven arrays from `tokens` to `output_rows` behind each other, where they are views
            of one array; else empty. It saves a backend the look-up of each address.
    """

    tokens: Int32
    positions: Int32
    query_starts: Int32
    context_lengths: Int32
    block_starts: Int32
    blocks: Int32
    output_rows: Int32
    sampling: SamplingPlan
    hidden_rows: Int32 = field(default_factory=lambda: _NONE)
    next_tokens: Int32 = field(default_factory=lambda: _NONE)
    prompt_lengths: Int32 = field(default_factory=lambda: _NONE)
    joined: Int32 = field(default_factory=lambda: _NONE)

    def generated_from(self) -> Int32:
        """[N] `prompt_lengths`, or what stands for them where they are empty."""
        if len(self.prompt_lengths):
            return self.prompt_lengths
        alone = np.diff(self.query_starts) == 1
        return np.where(alone, 0, self.context_lengths).astype(np.int32)


def sequence_plan(
    tokens: Int32, start: int, outputs: int, block_size: int, prompt_length: int | None = None
) -> StepPlan:
    """A greedy step of one sequence alone, for measurements; its cache is the first blocks.

    Args:
        tokens: [T] tokens of the step.
        start: position of the first of them.
        outputs: rows, from the last, that have an output.
        block_size: tokens per block.
        prompt_length: position from which rows are generated tokens; None leaves it to the backend.
    """
    count, end = len(tokens), start + len(tokens)
    blocks = -(-end // block_size)

    def ints(*values: int) -> Int32:
        return np.array(values, np.int32)

    return StepPlan(
        tokens=tokens,
        positions=np.arange(start, end, dtype=np.int32),
        query_starts=ints(0, count),
        context_lengths=ints(end),
        block_starts=ints(0, blocks),
        blocks=np.arange(blocks, dtype=np.int32),
        output_rows=np.arange(count - outputs, count, dtype=np.int32),
        sampling=greedy_plan(outputs),
        prompt_lengths=_NONE if prompt_length is None else ints(prompt_length),
    )


@dataclass(frozen=True, slots=True)
class StepResult:
    """Tokens and log-probabilities of the S output rows.

    Attributes:
        tokens: [S] the sampled token, or the target of a row that only scores; -1 where the logits
            are not finite.
        logprobs: [S] log-probability of that token under the unmodified logits (natural logarithm).
        top_tokens: the most probable tokens of each row that requests them, best first.
        top_logprobs: their log-probabilities, of the same lengths.
        hidden: [H, hidden_size] last hidden states after the final norm.
        drafts: [S] for each output row a proposal for the token after its token, or empty.
        attention_tokens: cache tokens that sparse attention read, and tokens of those contexts; both
            once per layer, row and query head.
    """

    tokens: Int32
    logprobs: NDArray[np.float32]
    top_tokens: tuple[Int32, ...] = field(default=())
    top_logprobs: tuple[NDArray[np.float32], ...] = field(default=())
    hidden: NDArray[np.float32] = field(default_factory=lambda: _NO_HIDDEN)
    drafts: Int32 = field(default_factory=lambda: _NONE)
    attention_tokens: tuple[int, int] = (0, 0)


class Backend(Protocol):
    """A loaded model with its cache."""

    def step(self, plan: StepPlan) -> StepResult:
        """Compute the rows, write their cache entries, and sample."""

    def set_threads(self, count: int) -> None:
        """Use `count` CPU threads from the next step on."""

    def close(self) -> None:
        """Free weights and cache. Nothing else may be called afterwards."""

    def release_cache(self) -> None:
        """Free the cache. No step can run until `allocate_cache`."""

    def allocate_cache(self) -> None:
        """Allocate the cache again, without content. Raises MemoryError where it does not fit."""
