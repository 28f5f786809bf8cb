"""Scheduler of engine steps: selects the tokens to compute in each step.

One rule covers chunked prefill, decode and recomputation, as in vLLM's V1 scheduler. Each running
sequence gets as many of its uncomputed tokens as the step's budget allows, and at least one. Waiting
sequences are admitted while seats, blocks and budget last. Sequences that only decode come first:
they need one token each. Prompts follow by priority and then by arrival, running and waiting ones
alike. A long prompt of batch work therefore does not block an urgent one.

The budget is a number of tokens and, while any sequence decodes, a duration (`engine/step_cost.py`).
Draft tokens (`engine/speculation.py`) get what prompts leave. Prompts get at least 16 tokens of a step together, so that they progress on any machine.

A waiting sequence is admitted when its prompt fits into the cache and the running sequences are
expected to fit until they end (`engine/admission.py`). It uses the cached blocks of the same prefix
(`engine/blocks.py`). Its last token is always computed, because the next token is sampled from that
row.

When a running sequence finds no free block all the same, the victim is the youngest sequence of the
lowest priority: it releases all of its blocks, waits at the head of its priority, and is computed
again from its tokens, except for those whose blocks are still in the cache.

A sequence that fits into the cache finishes once no request of higher priority arrives: the oldest
sequence of the highest priority is never preempted. A sequence that does not fit into the whole cache
is rejected before it is queued (`fits`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field, replace

from r1_runtime.engine.admission import Growth, OutputLengths, growth_fits
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.sequence import Finish, Sequence
from r1_runtime.engine.speculation import Drafter, may_draft
from r1_runtime.engine.step_cost import StepCost, chunk_attended

STEP_SECONDS = 0.05
_LEAST_PREFILL_TOKENS = 16
_DRAFT_STRETCH = 1.5


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens [start, start + count) of one sequence, to be computed in this step.

    Attributes:
        drafts: further tokens after the sequence's last one, to be verified. Each has a row and a
            sampled token of its own.
    """

    sequence: Sequence
    start: int
    count: int
    drafts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Tokens to compute, drafts included."""
        return self.count + len(self.drafts)

    @property
    def tokens(self) -> list[int]:
        """[rows] the tokens to compute, drafts included."""
        return [*self.sequence.tokens[self.start : self.start + self.count], *self.drafts]

    @property
    def samples(self) -> bool:
        """Whether this chunk ends at the sequence's last token, so that the next one is sampled."""
        return self.start + self.count == len(self.sequence.tokens)

    @property
    def decodes(self) -> bool:
        """Whether this chunk computes one token and all others are in the cache."""
        return self.count == 1 and self.start > 0


@dataclass(frozen=True, slots=True)
class Step:
    """One engine step; decode chunks come first."""

    chunks: tuple[Chunk, ...]
    preempted: int = 0

    @property
    def tokens(self) -> int:
        """Rows of the step, drafts included."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def attended(self) -> int:
        """Sum over the step's rows of the cache entries that each one reads."""
        return sum(chunk_attended(chunk.start, chunk.rows) for chunk in self.chunks)


@dataclass(slots=True)
class _Plan:
    """An incomplete step. One row per running sequence is reserved from the beginning.

    Attributes:
        extra: rows that the step may have beside the reserved ones.
        rows: rows of the step, the reserved ones included.
        attended: cache entries that these rows read.
        seconds: limit of the step's duration, or None.
        cost: predicts the duration.
        draft_seconds: limit of the duration with drafts, where it is another one.
        least_prefill: rows that prompts still get beyond the duration.
    """

    extra: int
    rows: int
    attended: int
    seconds: float | None
    cost: StepCost
    draft_seconds: float | None = None
    least_prefill: int = _LEAST_PREFILL_TOKENS
    chunks: list[Chunk] = field(default_factory=list)
    preempted: int = 0

    def room(self, start: int, most: int) -> int:
        """Tokens of a prompt from position `start` that the budget allows, up to `most`."""
        most = min(most, self.extra)
        if self.seconds is None or most <= 0:
            return most
        timed = self.cost.most_tokens(self.rows, self.attended, start, most, self.seconds)
        return min(most, max(timed, self.least_prefill))

    def spare(self, start: int, most: int) -> int:
        """Drafts after position `start` that the budget allows, up to `most`."""
        most = min(most, self.extra)
        if self.seconds is None or most <= 0:
            return max(0, most)
        seconds = self.seconds if self.draft_seconds is None else self.draft_seconds
        return self.cost.most_tokens(self.rows, self.attended, start, most, seconds)

    def stretch(self) -> None:
        """Let drafts add half of a step that is over the limit without them.

        A step is that long where weights are read slowly, which is where drafts save the most.
        """
        base = self.cost.predict(self.rows, self.attended)
        if self.seconds is not None and base > self.seconds:
            self.draft_seconds = _DRAFT_STRETCH * base

    def use(self, start: int, count: int) -> None:
        """Take rows from the budget."""
        self.extra -= count
        self.rows += count
        self.attended += chunk_attended(start, count)
        self.least_prefill = max(0, self.least_prefill - count)

    def drop(self, sequence: Sequence) -> None:
        """Return the reserved row of a sequence that is preempted."""
        self.preempted += 1
        self.extra += 1
        self.rows -= 1
        self.attended -= sequence.computed + 1


class Scheduler:
    """Owns the sequences and their blocks.

    Args:
        pool: the cache's blocks.
        max_sequences: sequences that run at once (seats).
        max_step_tokens: token budget of a step; also the longest prefill chunk.
        prefix_caching: use blocks of earlier sequences with the same prefix.
        step_seconds: longest step while a sequence decodes; None for no limit.
        drafter: proposes draft tokens for decoding sequences; None for no speculation.
        max_drafts: draft tokens per sequence and step.

    Attributes:
        step_cost: the learned durations of steps.
        prefix_queries: prompt tokens of admitted sequences, each sequence once.
        prefix_hits: those of them that were in the cache.
        drafts: chunks with draft tokens, since the start.
        draft_tokens: their draft tokens.
        accepted_tokens: those of them that the model sampled too.
    """

    def __init__(
        self,
        pool: BlockPool,
        max_sequences: int,
        max_step_tokens: int,
        *,
        prefix_caching: bool = True,
        step_seconds: float | None = STEP_SECONDS,
        drafter: Drafter | None = None,
        max_drafts: int = 4,
    ) -> None:
        if max_step_tokens < max_sequences:
            raise ValueError("max_step_tokens must be at least max_sequences")
        self.pool = pool
        self.max_sequences = max_sequences
        self.max_step_tokens = max_step_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.drafts = 0
        self.draft_tokens = 0
        self.accepted_tokens = 0
        self.step_cost = StepCost()
        self._prefix_caching = prefix_caching
        self._step_seconds = step_seconds
        self._drafter = drafter
        self._max_drafts = max_drafts
        self._output_lengths = OutputLengths()
        self._full = False  # the first waiting sequence does not fit until a sequence ends

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def fits(self, length: int) -> bool:
        """Whether a sequence of `length` tokens fits into the cache at all."""
        return -(-length // self.pool.block_size) <= self.pool.count

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence behind all of the same or higher priority."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].priority > sequence.priority:
            place -= 1
        self.waiting.insert(place, sequence)
        self._full = self._full and place > 0

    def schedule(self, now: float) -> Step:
        """Select the chunks of the next step and allocate their blocks."""
        plan = self._empty_plan()
        pending = sorted(self.running, key=lambda one: (one.uncomputed > 1, one.priority))
        while pending:
            sequence = pending.pop(0)
            if sequence.uncomputed > 1:
                self._admit(plan, now, above=sequence.priority)
            start = sequence.computed
            more = plan.room(start + 1, sequence.uncomputed - 1)
            while not self._extend(sequence, start + 1 + more):
                victim = self._victim(pending, sequence)
                plan.drop(victim)
                self._preempt(victim)
                if victim is sequence:
                    break
                pending.remove(victim)
            else:
                plan.use(start + 1, more)
                plan.chunks.append(Chunk(sequence, start, 1 + more))
        self._admit(plan, now)
        if self._drafter is not None and not plan.preempted:
            plan.stretch()
            plan.chunks = [self._with_drafts(plan, chunk, self._drafter) for chunk in plan.chunks]
        self.preemptions += plan.preempted
        plan.chunks.sort(key=lambda chunk: not chunk.decodes)
        return Step(tuple(plan.chunks), plan.preempted)

    def _with_drafts(self, plan: _Plan, chunk: Chunk, drafter: Drafter) -> Chunk:
        """The chunk with the drafts that budget, blocks and the output's limit allow.

        Prompts have taken their part before, and drafts never preempt a sequence.
        """
        if not chunk.decodes or not may_draft(chunk.sequence):
            return chunk
        sequence, end = chunk.sequence, chunk.start + chunk.count
        left = sequence.params.max_tokens - sequence.generated - 1  # the sampled token is the last
        most = plan.spare(end, min(self._max_drafts, left))
        if most < 1:
            return chunk
        drafts = tuple(drafter(sequence, most))[:most]
        if not drafts:
            return chunk
        if not self._extend(sequence, end + len(drafts)):
            drafts = drafts[: len(sequence.blocks) * self.pool.block_size - end]
        plan.use(end, len(drafts))
        return replace(chunk, drafts=drafts)

    def _empty_plan(self) -> _Plan:
        decoding = any(one.uncomputed == 1 and one.computed for one in self.running)
        return _Plan(
            extra=self.max_step_tokens - len(self.running),
            rows=len(self.running),
            attended=sum(one.computed + 1 for one in self.running),
            seconds=self._step_seconds if decoding else None,
            cost=self.step_cost,
        )

    def _admit(self, plan: _Plan, now: float, above: int | None = None) -> None:
        """Start waiting sequences while the step has tokens left.

        `above` admits only sequences of a higher priority than that.
        """
        while self.waiting and plan.extra and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            if plan.preempted or self._full:
                return
            if above is not None and sequence.priority >= above:
                return
            cached = self._cached_prefix(sequence)
            start = len(cached) * self.pool.block_size
            count = plan.room(start, len(sequence.tokens) - start)
            # Blocks for the whole prompt, because partly computed prompts would starve each other.
            if not count or not self._start(sequence, cached, now):
                return
            self.waiting.popleft()
            self.running.append(sequence)
            plan.use(start, count)
            plan.chunks.append(Chunk(sequence, start, count))

    def _start(self, sequence: Sequence, cached: list[int], now: float) -> bool:
        """Give a sequence its cached blocks and blocks for its other tokens, if there is room."""
        number = sequence.blocks_for(len(sequence.tokens), self.pool.block_size) - len(cached)
        if number > self.pool.available(cached):
            self._full = True
            return False
        if not self._growth_fits(sequence, cached, number):
            return False
        sequence.blocks = self.pool.take(number, cached) or []
        sequence.computed = len(cached) * self.pool.block_size
        if sequence.first_scheduled is None:
            sequence.first_scheduled = now
            sequence.cached_tokens = sequence.computed
            if not sequence.skip_reading_prefix_cache:
                self.prefix_queries += len(sequence.tokens)
            self.prefix_hits += sequence.computed
        return True

    def _cached_prefix(self, sequence: Sequence) -> list[int]:
        """Blocks of the sequence's first tokens that are in the cache, without its last token."""
        blocks: list[int] = []
        if not self._prefix_caching or sequence.skip_reading_prefix_cache:
            return blocks
        size = self.pool.block_size
        for index in range((len(sequence.tokens) - 1) // size):
            block = self.pool.find(sequence.identity(index, size))
            if block is None:
                break
            # The pool's own object: the next comparison then ends at the parent.
            sequence.identities[index] = self.pool.identity(block) or sequence.identities[index]
            blocks.append(block)
        return blocks

    def _growth_fits(self, sequence: Sequence, cached: list[int], number: int) -> bool:
        """Whether this sequence and the running ones are expected to fit until they end."""
        if not self.running:
            return True
        pool, size = self.pool, self.pool.block_size
        growths = [self._growth(one, len(one.blocks), self._own(one)) for one in self.running]
        growths.append(self._growth(sequence, len(cached) + number, number))
        in_use = pool.count - pool.available(cached) + number
        return growth_fits(in_use, pool.count, growths, size)

    def _own(self, sequence: Sequence) -> int:
        """Blocks that are free after the sequence's end. Shared blocks are the first ones."""
        uses = self.pool.references
        return len(sequence.blocks) - bisect_left(
            sequence.blocks, True, key=lambda block: uses(block) == 1
        )

    def _growth(self, sequence: Sequence, blocks: int, own: int) -> Growth:
        limit = sequence.params.max_tokens
        remaining = self._output_lengths.remaining(sequence.generated, limit)
        return Growth(len(sequence.tokens), remaining, blocks, own)

    def advance(self, step: Step, accepted: Rows[int] = ()) -> None:
        """Mark the step's chunks as computed; their full blocks can be shared from now on.

        Accepted drafts become tokens of their sequences. The token sampled after them is not appended
        here. So each sequence that samples has no uncomputed token until then.

        Args:
            step: the computed step.
            accepted: number of accepted drafts of each chunk; empty for none.
        """
        size = self.pool.block_size
        counts = accepted or [0] * len(step.chunks)
        for chunk, count in zip(step.chunks, counts, strict=True):
            sequence = chunk.sequence
            sequence.tokens += chunk.drafts[:count]
            self.drafts += bool(chunk.drafts)
            self.draft_tokens += len(chunk.drafts)
            self.accepted_tokens += count
            sequence.computed = chunk.start + chunk.count + count
            if self._prefix_caching:
                for index in range(chunk.start // size, sequence.computed // size):
                    identity = sequence.identity(index, size)
                    known = self.pool.register(sequence.blocks[index], identity)
                    sequence.identities[index] = known

    def note_duration(self, step: Step, seconds: float) -> None:
        """Learn the duration of a step that was computed."""
        self.step_cost.observe(step.tokens, step.attended, seconds)

    def finish(self, sequence: Sequence, reason: Finish) -> bool:
        """End a sequence and free its blocks; False when it has already ended.

        After an error, its blocks may have wrong content and are removed from the cache.
        """
        if sequence.finish is not None:
            return False
        sequence.finish = reason
        if reason is Finish.ERROR:
            self.pool.forget(sequence.blocks)
        if reason in (Finish.STOP, Finish.LENGTH):
            self._output_lengths.note(sequence.generated, limited=reason is Finish.LENGTH)
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._free(sequence)
        return True

    def check_integrity(self) -> None:
        """Raise AssertionError when blocks, seats or states do not add up (for tests)."""
        self.pool.check_integrity()
        uses = Counter(block for sequence in self.running for block in sequence.blocks)
        if any(uses[block] != self.pool.references(block) for block in range(self.pool.count)):
            raise AssertionError("references do not equal the uses by running sequences")
        for sequence in self.running:
            self._check_content(sequence)
        if len(self.running) > self.max_sequences:
            raise AssertionError("more sequences run than there are seats")
        for sequence in self.waiting:
            if sequence.blocks or sequence.computed:
                raise AssertionError("a waiting sequence has blocks")

    def _check_content(self, sequence: Sequence) -> None:
        size = self.pool.block_size
        for index, block in enumerate(sequence.blocks):
            identity = self.pool.identity(block)
            if identity is None:
                continue
            if index >= sequence.computed // size or identity != sequence.identity(index, size):
                raise AssertionError(
                    "a block is registered with other tokens than its sequence has"
                )

    def _extend(self, sequence: Sequence, length: int) -> bool:
        blocks = self.pool.take(sequence.blocks_for(length, self.pool.block_size))
        if blocks is None:
            return False
        sequence.blocks += blocks
        return True

    def _victim(self, pending: list[Sequence], requester: Sequence) -> Sequence:
        """The youngest sequence of the lowest priority among those not yet in the step."""
        place = {id(one): index for index, one in enumerate(self.running)}
        return max([*pending, requester], key=lambda one: (one.priority, place[id(one)]))

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._free(sequence)
        place = 0
        while place < len(self.waiting) and self.waiting[place].priority < sequence.priority:
            place += 1
        self.waiting.insert(place, sequence)

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
        self._full = False
