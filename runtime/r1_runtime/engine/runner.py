"""Model runner: a scheduler's step becomes a `StepPlan`, and its result becomes the engine's rows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.sampling_plan import NO_LOGPROB
from r1_runtime.backends.step_plan import Backend, StepPlan, StepResult
from r1_runtime.engine.messages import AttentionReads, SampledRow, TokenLogprobs
from r1_runtime.engine.pooling import PooledStates, hidden_rows
from r1_runtime.engine.sampling_arrays import SamplingPlans, SamplingRow, SequenceSampling
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Chunk, Step
from r1_runtime.engine.sequence import Sequence
from r1_runtime.engine.speculation import accepted_length

_NO_ROWS = np.empty(0, np.int32)


class Runner:
    """Computes steps by a backend and keeps the sampling state of the sequences.

    Args:
        backend: a loaded model with its cache.
        block_size: tokens per cache block.
        end_tokens: tokens that end an output; `min_tokens` excludes them.
        model_drafts: the backend proposes tokens by the model's own layer; `draft` returns them.

    Attributes:
        reads: what sparse attention read since the start.
    """

    def __init__(
        self,
        backend: Backend,
        block_size: int,
        end_tokens: Iterable[int] = (),
        *,
        model_drafts: bool = False,
    ) -> None:
        self.backend = backend
        self.reads = AttentionReads()
        self._model_drafts = model_drafts
        self._pooled = PooledStates()
        self._proposals: dict[str, tuple[int, int]] = {}  # length of the sequence, token after it
        self.block_size = block_size
        self._end_tokens = tuple(end_tokens)
        self._sampling: dict[str, SequenceSampling] = {}
        self._sampling_plans = SamplingPlans()

    def execute(self, step: Step) -> list[SampledRow]:
        """Compute the step; return its output rows in the order of its chunks."""
        places = [place for chunk in step.chunks for place in output_rows(chunk)]
        plan = self._plan(step, places)
        result = self.backend.step(plan)
        read, context = result.attention_tokens
        self.reads.read += read
        self.reads.context += context
        rows = [_sampled(result, row, *place) for row, place in enumerate(places)]
        if self._model_drafts:
            self._note_proposals(step, places, result)
        if len(plan.hidden_rows):
            rows += self._pooled.add(step, result.hidden)
        return rows

    def draft(self, sequence: Sequence, most: int) -> list[int]:
        """The model's own proposal for the token after a sequence, as a `Drafter`."""
        length, token = self._proposals.get(sequence.id, (0, 0))
        return [token][:most] if length == len(sequence.tokens) else []

    def _note_proposals(
        self, step: Step, places: list[tuple[Sequence, int]], result: StepResult
    ) -> None:
        """Keep the proposal after the last accepted draft of each sequence."""
        row = {(place[0].id, place[1]): number for number, place in enumerate(places)}
        for chunk in step.chunks:
            if not chunk.samples or chunk.sequence.pooling is not None:
                continue
            name, end = chunk.sequence.id, chunk.start + chunk.count
            first = row[name, end]
            sampled = result.tokens[first : first + 1 + len(chunk.drafts)].tolist()
            accepted = accepted_length(chunk.drafts, sampled)
            token = int(result.drafts[first + accepted])
            self._proposals[name] = (end + accepted + 1, token)

    def dummy_run(self, prefill: int, decode: int, limit: int) -> None:
        """Compute a prompt and `decode` tokens after it, on the cache's first blocks.

        Args:
            prefill: tokens of the prompt.
            decode: single steps after it.
            limit: tokens that cache and model allow; the prompt is shortened to it.
        """
        length = min(prefill + decode, limit)
        blocks = list(range(-(-length // self.block_size)))
        greedy = SamplingParams(temperature=0)
        sequence = Sequence("dummy-run", [0] * length, length, greedy, 0.0, blocks)
        start = max(1, length - decode)
        self.execute(Step((Chunk(sequence, 0, start),)))
        for at in range(start, length):
            self.execute(Step((Chunk(sequence, at, 1),)))
        self.release(sequence)

    def release(self, sequence: Sequence) -> None:
        """Free the state of a sequence that has ended."""
        self._sampling.pop(sequence.id, None)
        self._pooled.drop(sequence)
        self._proposals.pop(sequence.id, None)

    def _plan(self, step: Step, places: list[tuple[Sequence, int]]) -> StepPlan:
        rows = [chunk.rows for chunk in step.chunks]
        starts = [0, *accumulate(rows)]
        contexts = [chunk.start + chunk.rows for chunk in step.chunks]
        tokens: list[int] = []
        positions: list[int] = []
        blocks: list[list[int]] = []
        outputs: list[int] = []
        for chunk, context, row in zip(step.chunks, contexts, starts, strict=False):
            end = chunk.start + chunk.count
            tokens += chunk.sequence.tokens[chunk.start : end]
            tokens += chunk.drafts
            positions += range(chunk.start, context)
            blocks.append(chunk.sequence.blocks[: -(-context // self.block_size)])
            first = row - chunk.start - 1
            outputs += [first + position for _, position in output_rows(chunk)]
        block_starts = [0, *accumulate(map(len, blocks))]
        parts = (tokens, positions, starts, contexts, block_starts, [*chain(*blocks)], outputs)
        joined = np.array([*chain(*parts)], np.int32)  # one conversion: each costs a microsecond
        ends = [*accumulate(map(len, parts))]
        views = [joined[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]
        pooled = hidden_rows(step)
        return StepPlan(
            tokens=views[0],
            positions=views[1],
            query_starts=views[2],
            context_lengths=views[3],
            block_starts=views[4],
            blocks=views[5],
            output_rows=views[6],
            sampling=self._sampling_plans.plan([self._sampling_row(*place) for place in places]),
            hidden_rows=_ints(pooled) if pooled else _NO_ROWS,
            next_tokens=_ints(_next_tokens(step)) if self._model_drafts else _NO_ROWS,
            prompt_lengths=_ints([chunk.sequence.prompt_length for chunk in step.chunks]),
            joined=joined,
        )

    def _sampling_row(self, sequence: Sequence, position: int) -> SamplingRow:
        state = self._sampling.get(sequence.id)
        if state is None:
            state = SequenceSampling(sequence.params, sequence.prompt_length, self._end_tokens)
            self._sampling[sequence.id] = state
        if position < len(sequence.tokens):
            target = sequence.tokens[position]
            return SamplingRow(state, position, target, sequence.params.prompt_logprobs or 0)
        state.advance(sequence.tokens)
        mask = None if sequence.constraint is None else sequence.constraint.mask()
        logprobs = sequence.params.logprobs
        return SamplingRow(state, position, -1, NO_LOGPROB if logprobs is None else logprobs, mask)


def output_rows(chunk: Chunk) -> list[tuple[Sequence, int]]:
    """(sequence, position of the token) of each output row of a chunk."""
    sequence, end = chunk.sequence, chunk.start + chunk.count
    if sequence.pooling is not None:
        return []
    scored = 0 if sequence.params.prompt_logprobs is None else sequence.prompt_length
    positions = range(chunk.start + 1, min(end + 1, scored))
    rows = [(sequence, position) for position in positions]
    if chunk.samples:
        rows += [(sequence, position) for position in range(end, end + 1 + len(chunk.drafts))]
    return rows


def _next_tokens(step: Step) -> list[int]:
    """The token after each row; -1 where the step samples it."""
    following: list[int] = []
    for chunk in step.chunks:
        tokens = chunk.sequence.tokens[chunk.start + 1 : chunk.start + chunk.count + 1]
        following += tokens + [-1] * (chunk.rows - len(tokens))
    return following


def _ints(values: list[int]) -> NDArray[np.int32]:
    return np.array(values, np.int32)


def _sampled(result: StepResult, row: int, sequence: Sequence, position: int) -> SampledRow:
    """The engine's form of one output row."""
    token = int(result.tokens[row])
    scored = position if position < len(sequence.tokens) else None
    if token < 0:
        return SampledRow(sequence, None, scored=scored)
    params = sequence.params
    if (params.logprobs if scored is None else params.prompt_logprobs) is None:
        return SampledRow(sequence, token, scored=scored)
    tops: tuple[tuple[int, float], ...] = ()
    if result.top_tokens:
        values = (result.top_tokens[row].tolist(), result.top_logprobs[row].tolist())
        tops = tuple(zip(*values, strict=True))
    logprobs = TokenLogprobs(token, float(result.logprobs[row]), tops)
    return SampledRow(sequence, token, logprobs, scored)
