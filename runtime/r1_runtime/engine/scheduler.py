"""Which tokens of which sequences the next step computes.

One rule covers chunked prefill, decode and recomputation (vLLM's second scheduler has it too): each
running sequence gets as many of its missing tokens as the step's token budget allows, and waiting
ones are admitted while seats, blocks and budget last. Sequences that only decode come first, for
they need one token each. Prompts follow by urgency, and in order of arrival inside it, running and
waiting ones alike: a long prompt of batch work does not hold up an urgent one, it goes on with what
the step has left and at least one token. When a running sequence finds no block, the least urgent
one (of these the youngest) gives all of its blocks back and waits in front of its kind, to be
computed again from its tokens.

A sequence that fits into the whole cache finishes once nothing more urgent comes: the oldest of the
most urgent is never preempted. What does not fit even alone is refused at the door (`fits`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class _Plan:
    """A step in the making: what is left of its budget, and what was chosen."""

    budget: int
    chunks: list[Chunk] = field(default_factory=list)
    preempted: int = 0

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.budget -= chunk.count


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
        """Queue a sequence behind all that are as urgent."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].urgency > sequence.urgency:
            place -= 1
        self.waiting.insert(place, sequence)

    def schedule(self, now: float) -> Step:
        """Choose the next step's chunks and take the blocks they need."""
        plan = _Plan(self.max_step_tokens)
        todo = sorted(self.running, key=lambda one: (one.missing > 1, one.urgency))
        while todo:
            sequence = todo.pop(0)
            if sequence.missing > 1:
                # Those already running keep at least one token each.
                self._admit(plan, now, keep=len(todo) + 1, above=sequence.urgency)
            # So do those behind, so that decoding never starves.
            count = min(sequence.missing, max(1, plan.budget - len(todo)))
            while not self._extend(sequence, sequence.computed + count):
                plan.preempted += 1
                victim = self._victim(todo, sequence)
                self._preempt(victim)
                if victim is sequence:
                    break
                todo.remove(victim)
            else:
                plan.add(Chunk(sequence, sequence.computed, count))
        self._admit(plan, now)
        self.preemptions += plan.preempted
        plan.chunks.sort(key=lambda chunk: not (chunk.count == 1 and chunk.start > 0))
        return Step(tuple(plan.chunks), plan.preempted)

    def _admit(self, plan: _Plan, now: float, keep: int = 0, above: int | None = None) -> None:
        """Start waiting sequences while the step has more than `keep` tokens left.

        `above` admits only what is more urgent than that.
        """
        while self.waiting and plan.budget > keep and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if plan.preempted:
                return  # there was no room a moment ago
            if above is not None and sequence.urgency >= above:
                return
            # Room for the whole prompt is asked for, or half-filled prompts would starve each other.
            if not self._extend(sequence, len(sequence.tokens)):
                return
            self.waiting.popleft()
            self.running.append(sequence)
            if sequence.first_scheduled is None:
                sequence.first_scheduled = now
            plan.add(Chunk(sequence, 0, min(sequence.missing, plan.budget - keep)))

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

    def _victim(self, todo: list[Sequence], asking: Sequence) -> Sequence:
        """The least urgent of those not yet in the step, the youngest of several."""
        place = {id(one): index for index, one in enumerate(self.running)}
        return max([*todo, asking], key=lambda one: (one.urgency, place[id(one)]))

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free(sequence)
        place = 0
        while place < len(self.waiting) and self.waiting[place].urgency < sequence.urgency:
            place += 1
        self.waiting.insert(place, sequence)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
