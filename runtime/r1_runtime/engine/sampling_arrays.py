"""Parameter arrays of a step's output rows, built from per-sequence state.

The state of a sequence (seed, logit adjustments) is updated by one entry per new token, so the cost
of a step depends neither on the length of a sequence nor on the size of the vocabulary. A step whose
rows are all greedy uses a constant plan.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.sampling_plan import NO_LOGPROB, SamplingPlan, greedy_plan
from r1_runtime.engine.sampling_params import SamplingParams

_UNCHANGED = np.array([1, 1, 0], np.float32)
_constant_plan = lru_cache(maxsize=256)(partial(greedy_plan, logprobs=False))


class SequenceSampling:
    """Sampling state of one sequence.

    Args:
        params: the sequence's parameters.
        prompt_length: tokens of the prompt.
        end_tokens: the model's end tokens, which `min_tokens` excludes unless `ignore_eos` is set.
    """

    def __init__(
        self, params: SamplingParams, prompt_length: int, end_tokens: Iterable[int] = ()
    ) -> None:
        self.params = params
        self.seed = (random.getrandbits(64) if params.seed is None else params.seed) % 2**64
        self._prompt_length = prompt_length
        self._length = 0  # tokens of the sequence that are in the adjustments
        self._slots: dict[int, int] = {}  # token -> its row in the two arrays
        self._tokens = np.empty(0, np.int32)
        self._values = np.empty((0, 3), np.float32)
        self._generated: set[int] = set()
        self._repeats = params.repetition_penalty != 1
        self._counts = bool(params.presence_penalty or params.frequency_penalty)
        for token, bias in params.logit_bias:
            slot = self._slot(token)
            self._values[slot, 2] += bias
        ends = () if params.ignore_eos else end_tokens
        excluded = {*ends, *params.stop_token_ids} if params.min_tokens else ()
        self._excluded = [self._slot(token) for token in excluded]  # until min_tokens
        self.constant = (  # whether the rows of all tokens have equal parameters, without a logprob
            params.logprobs is None and not (self._slots or self._repeats or self._counts)
        )
        self.greedy = params.temperature == 0 and self.constant

    def advance(self, tokens: Rows[int]) -> None:
        """Add the tokens that the sequence has received since the last call.

        Args:
            tokens: all tokens of the sequence, prompt included.
        """
        if len(tokens) - self._prompt_length >= self.params.min_tokens:
            self._excluded = []
        if self._repeats or self._counts:
            first = self._length if self._repeats else max(self._length, self._prompt_length)
            for position in range(first, len(tokens)):
                self._note(tokens[position], generated=position >= self._prompt_length)
        self._length = len(tokens)

    def adjustments(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Tokens [n] with changed logits and their changes [n, 3], as in `SamplingPlan`."""
        used = len(self._slots)
        values = self._values[:used]
        if self._excluded:
            values = values.copy()
            values[self._excluded, 2] = -np.inf
        return self._tokens[:used], values

    def _note(self, token: int, *, generated: bool) -> None:
        slot = self._slot(token)
        value = self._values[slot]
        if self._repeats:
            value[:2] = 1 / self.params.repetition_penalty, self.params.repetition_penalty
        if generated and self._counts:
            value[2] -= self.params.frequency_penalty
            if token not in self._generated:
                self._generated.add(token)
                value[2] -= self.params.presence_penalty

    def _slot(self, token: int) -> int:
        """The row of a token, added if it is new."""
        slot = self._slots.setdefault(token, len(self._slots))
        if slot == len(self._tokens):
            size = max(8, 2 * slot)
            tokens, values = np.empty(size, np.int32), np.tile(_UNCHANGED, (size, 1))
            tokens[:slot], values[:slot] = self._tokens, self._values
            self._tokens, self._values = tokens, values
        self._tokens[slot] = token
        return slot


@dataclass(frozen=True, slots=True)
class SamplingRow:
    """One output row of a step.

    Attributes:
        state: the sequence's state, advanced to the row's last input token.
        position: position of the token that the row samples or scores.
        target: the token to score, or -1 to sample one.
        top_count: number of most probable tokens to return, or `NO_LOGPROB`.
        mask: uint32 [ceil(vocab / 32)] with a bit set for each allowed token; None for all.
    """

    state: SequenceSampling
    position: int
    target: int = -1
    top_count: int = NO_LOGPROB
    mask: NDArray[np.uint32] | None = None


class SamplingPlans:
    """Builds the plan of each step, and keeps it while the same sequences only draw.

    Such a step differs from the last one in the positions alone, and a plan that stays the same object
    costs the native backend nothing.
    """

    def __init__(self) -> None:
        self._states: list[SequenceSampling] = []
        self._plan: SamplingPlan | None = None

    def plan(self, rows: Rows[SamplingRow]) -> SamplingPlan:
        """As `build_sampling_plan`. The plan of the step before may be changed."""
        states = [row.state for row in rows]
        if all(row.state.constant and row.target < 0 and row.mask is None for row in rows):
            if self._plan is not None and states == self._states:
                self._plan.counters[:] = [row.position for row in rows]
                return self._plan
            self._states, self._plan = states, build_sampling_plan(rows)
            return self._plan
        self._plan = None
        return build_sampling_plan(rows)


def build_sampling_plan(rows: Rows[SamplingRow]) -> SamplingPlan:
    """The parameter arrays of a step's output rows.

    A greedy row without log-probabilities has no parameters: a step of such rows costs one look-up.
    Rows of several draft positions of one sequence share its state: a sequence with penalties must
    have one row per step.
    """
    if all(row.state.greedy and row.target < 0 and row.mask is None for row in rows):
        return _constant_plan(len(rows))
    params = [row.state.params for row in rows]
    scores = [row.target >= 0 for row in rows]
    changes = [
        (_NO_TOKENS, _NO_VALUES) if scored else row.state.adjustments()
        for row, scored in zip(rows, scores, strict=True)
    ]
    masks = [row.mask for row in rows if row.mask is not None]
    numbers = iter(range(len(masks)))
    return SamplingPlan(
        temperatures=np.array(
            [0 if scored else one.temperature for one, scored in zip(params, scores, strict=True)],
            np.float32,
        ),
        top_k=np.array([one.top_k for one in params], np.int32),
        top_p=np.array([one.top_p for one in params], np.float32),
        min_p=np.array([one.min_p for one in params], np.float32),
        seeds=np.array([row.state.seed for row in rows], np.uint64),
        counters=np.array([row.position for row in rows], np.uint64),
        targets=np.array([row.target for row in rows], np.int32),
        top_counts=np.array([row.top_count for row in rows], np.int32),
        adjust_starts=np.cumsum([0, *(len(tokens) for tokens, _ in changes)], dtype=np.int32),
        adjust_tokens=np.concatenate([tokens for tokens, _ in changes]),
        adjust_values=np.concatenate([values for _, values in changes]),
        masks=np.array([-1 if row.mask is None else next(numbers) for row in rows], np.int32),
        mask_bits=np.stack(masks) if masks else np.empty((0, 0), np.uint32),
    )


_NO_TOKENS = np.empty(0, np.int32)
_NO_VALUES = np.empty((0, 3), np.float32)
