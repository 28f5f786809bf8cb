"""Feeds given tokens to a backend and returns the log-probability of each next token.

This is teacher forcing on the path that serves: the same `StepPlan`, the same cache. A token is
computed either in a prompt's chunk or alone, as in decoding; some techniques treat the two in
different ways, so the caller says how many last tokens are computed one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import Backend, StepPlan
from r1_runtime.errors import OptionError

_IGNORED = -1  # a row without output


@dataclass(slots=True)
class CachedSequence:
    """A sequence in the cache: its blocks, and the number of its tokens that are computed."""

    blocks: list[int] = field(default_factory=list)
    length: int = 0


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Scores of n tokens, each given all tokens before it.

    Attributes:
        logprobs: [n] natural logarithm of the token's probability.
        predicted: [n] the most probable token at its place.
    """

    logprobs: NDArray[np.float32]
    predicted: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ScoringJob:
    """A text whose end is scored.

    Attributes:
        tokens: the whole text.
        first: index of the first scored token, at least 1.
        tail: number of last tokens that are computed one by one, as in decoding.
        prefix: a sequence that holds the first tokens of this text already.
    """

    tokens: Sequence[int]
    first: int = 1
    tail: int = 0
    prefix: CachedSequence | None = None


class ForcedDecoder:
    """Sequences in the cache of one backend.

    Args:
        backend: a loaded model.
        blocks: blocks of its cache.
        block_size: tokens per block.
        step_tokens: most tokens of a prompt per step.
    """

    def __init__(
        self, backend: Backend, *, blocks: int, block_size: int, step_tokens: int = 256
    ) -> None:
        self.backend = backend
        self._block_size, self._step_tokens = block_size, step_tokens
        self._capacity = blocks
        self._free = list(range(blocks - 1, -1, -1))
        self._uses = Counter[int]()
        self.computed_tokens = 0

    def open(self, prefix: CachedSequence | None = None, most: int = 0) -> CachedSequence:
        """A new sequence; it shares the full blocks of the first `most` tokens of `prefix`."""
        if prefix is None:
            return CachedSequence()
        shared = prefix.blocks[: min(most, prefix.length) // self._block_size]
        self._uses.update(shared)
        return CachedSequence(list(shared), len(shared) * self._block_size)

    def close(self, sequence: CachedSequence) -> None:
        """Free the blocks that no other sequence uses."""
        for block in sequence.blocks:
            self._uses[block] -= 1
            if not self._uses[block]:
                del self._uses[block]
                self._free.append(block)
        sequence.blocks, sequence.length = [], 0

    def prefill(self, sequence: CachedSequence, tokens: Sequence[int]) -> None:
        """Compute the tokens after those that the sequence has, without scores."""
        self._compute(sequence, tokens, len(tokens), len(tokens))

    def decode(self, sequence: CachedSequence, tokens: Sequence[int]) -> None:
        """Compute given tokens one by one, each with the output of a greedy step."""
        for token in tokens:
            self._step([(sequence, [token], [0])])

    def score(self, jobs: Sequence[ScoringJob]) -> list[TokenScores]:
        """Score each job's tokens from `first` on.

        Prompts are computed one after the other, the tails of several jobs together: as many as the
        cache holds.
        """
        results: list[TokenScores] = []
        for batch in self._batches(jobs):
            results += self._score_batch(batch)
        return results

    def generate(self, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
        """The `count` most probable tokens after each prompt, one at a time; all prompts together."""
        sequences = [self.open() for _ in prompts]
        outputs: list[list[int]] = [[] for _ in prompts]
        for sequence, prompt in zip(sequences, prompts, strict=True):
            self._compute(sequence, prompt, len(prompt) - 1, len(prompt))
        pending = [prompt[-1] for prompt in prompts]
        for _ in range(count):
            rows = [(one, [token], [0]) for one, token in zip(sequences, pending, strict=True)]
            pending = [int(scores.predicted[0]) for scores in self._step(rows)]
            for output, token in zip(outputs, pending, strict=True):
                output.append(token)
        for sequence in sequences:
            self.close(sequence)
        return outputs

    def _batches(self, jobs: Sequence[ScoringJob]) -> Iterator[list[ScoringJob]]:
        """Jobs that fit into the free blocks together."""
        batch: list[ScoringJob] = []
        blocks = 0
        for job in jobs:
            needed = -(-len(job.tokens) // self._block_size)
            if needed > len(self._free):
                raise OptionError(
                    f"command line: --num-blocks {self._capacity} holds"
                    f" {self._capacity * self._block_size} tokens, but a text of"
                    f" {len(job.tokens)} tokens is evaluated. Fix: shorter texts."
                )
            if blocks + needed > len(self._free) or (batch and not job.tail):
                yield batch
                batch, blocks = [], 0
            batch.append(job)
            blocks += needed
        if batch:
            yield batch

    def _score_batch(self, jobs: list[ScoringJob]) -> list[TokenScores]:
        sequences = [self.open(job.prefix, _alone_from(job)) for job in jobs]
        scores = [
            [self._compute(sequence, job.tokens[sequence.length :], _alone_from(job), job.first)]
            for sequence, job in zip(sequences, jobs, strict=True)
        ]
        # A sequence computes all tokens but the last, which is only a target.
        for _ in range(max(job.tail for job in jobs)):
            running = [
                number
                for number, job in enumerate(jobs)
                if sequences[number].length < len(job.tokens) - 1
            ]
            rows = []
            for number in running:
                at, tokens = sequences[number].length, jobs[number].tokens
                target = tokens[at + 1] if at + 1 >= jobs[number].first else _IGNORED
                rows.append((sequences[number], [tokens[at]], [target]))
            if rows:
                for number, result in zip(running, self._step(rows), strict=True):
                    scores[number].append(result)
        for sequence in sequences:
            self.close(sequence)
        return [_joined(parts) for parts in scores]

    def _compute(
        self, sequence: CachedSequence, rest: Sequence[int], until: int, first: int
    ) -> TokenScores:
        """Compute a sequence in chunks up to the position `until`; scores from token `first` on.

        Args:
            sequence: computed up to its length.
            rest: its tokens from there on.
            until: tokens that are computed afterwards.
            first: first token that is scored.
        """
        parts, start = [], sequence.length
        for at in range(start, until, self._step_tokens):
            end = min(at + self._step_tokens, until)
            tokens = rest[at - start : end - start]
            following = rest[at - start + 1 : end - start + 1]
            targets = [
                token if at + number + 1 >= first else _IGNORED
                for number, token in enumerate(following)
            ]
            targets += [_IGNORED] * (len(tokens) - len(targets))
            parts += self._step([(sequence, tokens, targets)])
        return _joined(parts)

    def _step(
        self, rows: Sequence[tuple[CachedSequence, Sequence[int], Sequence[int]]]
    ) -> list[TokenScores]:
        """One step of (sequence, tokens, target after each token or -1)."""
        for sequence, tokens, _ in rows:
            sequence.length += len(tokens)
            while len(sequence.blocks) * self._block_size < sequence.length:
                block = self._free.pop()
                self._uses[block] += 1
                sequence.blocks.append(block)
            self.computed_tokens += len(tokens)
        counts = [len(tokens) for _, tokens, _ in rows]
        targets = [target for _, _, each in rows for target in each]
        outputs = [row for row, target in enumerate(targets) if target != _IGNORED]
        positions = [
            position
            for sequence, tokens, _ in rows
            for position in range(sequence.length - len(tokens), sequence.length)
        ]
        sampling = replace(
            greedy_plan(len(outputs)),
            targets=_ints([targets[row] for row in outputs]),
            top_counts=np.ones(len(outputs), np.int32),
        )
        result = self.backend.step(
            StepPlan(
                tokens=_ints([token for _, tokens, _ in rows for token in tokens]),
                positions=_ints(positions),
                query_starts=_ints([0, *accumulate(counts)]),
                context_lengths=_ints([sequence.length for sequence, _, _ in rows]),
                block_starts=_ints([0, *accumulate(len(one.blocks) for one, _, _ in rows)]),
                blocks=_ints([block for one, _, _ in rows for block in one.blocks]),
                output_rows=_ints(outputs),
                sampling=sampling,
            )
        )
        predicted = _ints([int(top[0]) for top in result.top_tokens])
        bounds = np.searchsorted(outputs, [0, *accumulate(counts)])
        return [
            TokenScores(result.logprobs[low:high], predicted[low:high])
            for low, high in pairwise(bounds.tolist())
        ]


def _alone_from(job: ScoringJob) -> int:
    """Number of tokens that are computed in chunks; the last token of a text is not computed."""
    return max(0, len(job.tokens) - 1 - job.tail)


def _joined(parts: Sequence[TokenScores]) -> TokenScores:
    if not parts:
        return TokenScores(np.empty(0, np.float32), np.empty(0, np.int32))
    return TokenScores(
        np.concatenate([part.logprobs for part in parts]),
        np.concatenate([part.predicted for part in parts]),
    )


def _ints(values: Sequence[int]) -> NDArray[np.int32]:
    return np.array(values, np.int32)
