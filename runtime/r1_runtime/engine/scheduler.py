"""Which tokens of which sequences the next step computes.

One rule covers chunked prefill, decode and recomputation (vLLM's second scheduler has it too):
running sequences first, in order of arrival, each gets as many of its missing tokens as the step's
token budget allows; then waiting ones are admitted while seats, blocks and budget last. When a
running sequence finds no block, the youngest one gives all of its blocks back and waits at the
front of the queue, to be computed again from its tokens.

A sequence that fits into the whole cache always finishes: the oldest is never preempted for a
younger one. What does not fit even alone is refused at the door (`fits`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.sequence import Finish, Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens [start, start + count) of one sequence, to be computed in this step."""

    sequence: Sequence
    start: int
    count: int

    @property
    def samples(self) -> bool:
        """Whether this chunk ends at the sequence's last token, so that the next is drawn."""
        return self.start + self.count == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """One engine step: decode chunks (one token, all others computed) come first."""

    chunks: tuple[Chunk, ...]
    preempted: int = 0

    @property
    def tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks)


class Scheduler:
    """Owns the sequences and their blocks.

    Args:
        pool: the cache's blocks.
        max_sequences: sequences that run at once (seats).
        max_step_tokens: token budget of a step; also the longest prefill chunk.
    """

    def __init__(self, pool: BlockPool, max_sequences: int, max_step_tokens: int) -> None:
        if max_step_tokens < max_sequences:
            raise ValueError("max_step_tokens must be at least max_sequences")
        self.pool = pool
        self.max_sequences = max_sequences
        self.max_step_tokens = max_step_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def fits(self, length: int) -> bool:
        """Whether a sequence of `length` tokens fits into the cache at all."""
        return -(-length // self.pool.block_size) <= self.pool.count

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def schedule(self, now: float) -> Step:
        """Choose the next step's chunks and take the blocks they need."""
        budget = self.max_step_tokens
        chunks: list[Chunk] = []
        preempted = 0
        position = 0
        while position < len(self.running):
            sequence = self.running[position]
            position += 1
            # Those behind keep at least one token each, so that decoding never starves.
            behind = len(self.running) - position
            count = min(sequence.missing, max(1, budget - behind))
            while not self._extend(sequence, sequence.computed + count):
                preempted += 1
                if self._preempt_youngest() is sequence:
                    break
            else:
                chunks.append(Chunk(sequence, sequence.computed, count))
                budget -= count
        while self.waiting and budget > 0 and len(self.running) < self.max_sequences:
            if preempted:
                break  # there was no room a moment ago
            sequence = self.waiting[0]
            count = min(sequence.missing, budget)
            # Room for the whole prompt is asked for, or half-filled prompts would starve each other.
            if not self._extend(sequence, len(sequence.tokens)):
                break
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.first_scheduled is None:
                sequence.first_scheduled = now
            chunks.append(Chunk(sequence, 0, count))
            budget -= count
        self.preemptions += preempted
        chunks.sort(key=lambda chunk: not (chunk.count == 1 and chunk.start > 0))
        return Step(tuple(chunks), preempted)

    def advance(self, step: Step) -> None:
        """Note that the step's chunks are in the cache now."""
        for chunk in step.chunks:
            chunk.sequence.computed = chunk.start + chunk.count

    def finish(self, sequence: Sequence, reason: Finish) -> bool:
        """The one way out: frees the blocks. False when the sequence has already left."""
        if sequence.finish is not None:
            return False
        sequence.finish = reason
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free(sequence)
        return True

    def check_integrity(self) -> None:
        """Raise AssertionError when blocks, seats or states do not add up (for tests)."""
        self.pool.check_integrity()
        held = [block for sequence in self.running for block in sequence.blocks]
        if len(held) != len(set(held)) or len(held) != self.pool.count - self.pool.free:
            raise AssertionError("blocks are shared, lost or held by no running sequence")
        if len(self.running) > self.max_sequences:
            raise AssertionError("more sequences run than there are seats")
        for sequence in self.waiting:
            if sequence.blocks or sequence.computed:
                raise AssertionError("a waiting sequence holds blocks")

    def _extend(self, sequence: Sequence, length: int) -> bool:
        blocks = self.pool.take(sequence.blocks_for(length, self.pool.block_size))
        if blocks is None:
            return False
        sequence.blocks += blocks
        return True

    def _preempt_youngest(self) -> Sequence:
        sequence = self.running.pop()
        self._free(sequence)
        self.waiting.appendleft(sequence)
        return sequence

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
