"""A replica as a continuous batching engine sees time: one iteration after another.

An iteration decodes one token for each running sequence and prefills up to `chunk_tokens` of waiting
prompts (chunked prefill, as vLLM and SGLang do it), first come first served, the urgent before the
others as our runtime's scheduler does. Its length is `base + per_sequence x running + per_prefill_token x prefilled`. The
first token of a request comes at the end of the iteration that finishes its prompt.

While nothing is prefilled and no request ends, all iterations are equal, so they pass as one *span*: one
event instead of hundreds. A request that arrives in a span joins at the next iteration's start.
"""

from __future__ import annotations

import heapq
import math
from bisect import insort
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """Speed of one replica (seconds, tokens).

    The defaults are round figures for a node of eight GPUs, not a measurement: 33,000 prompt
    tokens and, with 16 sequences, 740 output tokens a second (published for such nodes: 52,300
    and 22,300, SGLang's blog of 2025-05-05, with hundreds of sequences).
    """

    base_seconds: float = 0.02
    per_sequence_seconds: float = 0.0001
    per_prefill_token_seconds: float = 0.00003
    chunk_tokens: int = 2048
    seats: int = 16

    def iteration_seconds(self, running: int, prefilled: int) -> float:
        """The length of one iteration."""
        return (
            self.base_seconds
            + self.per_sequence_seconds * running
            + self.per_prefill_token_seconds * prefilled
        )

    def alone_seconds(self, prompt_tokens: int) -> float:
        """Time to first token of a request on an idle replica."""
        chunks = max(1, math.ceil(prompt_tokens / self.chunk_tokens))
        return chunks * self.base_seconds + self.per_prefill_token_seconds * prompt_tokens


@dataclass(slots=True, eq=False)
class Work:
    """A request inside an engine."""

    prompt_tokens: int
    output_tokens: int
    urgency: int = 1
    to_prefill: int = field(init=False)
    first_token_at: float | None = None

    def __post_init__(self) -> None:
        self.to_prefill = max(1, self.prompt_tokens)
        self.output_tokens = max(1, self.output_tokens)


class SimulatedEngine:
    """One replica. The caller has the clock: it passes `now` and returns at `ends_at`."""

    def __init__(self, speed: EngineSpeed) -> None:
        self.speed = speed
        self.ends_at = math.inf
        self._prefill: list[Work] = []
        self._finishing: list[tuple[int, int, Work]] = []
        self._iteration = 0
        self._serial = 0
        self._started_at = 0.0
        self._span = 0
        self._length = 0.0
        self._prefilled: list[Work] = []

    @property
    def busy(self) -> bool:
        """Whether an iteration runs."""
        return self.ends_at < math.inf

    def add(self, work: Work, now: float) -> None:
        """Add a request; it joins at the start of the next iteration."""
        insort(self._prefill, work, key=lambda one: one.urgency)
        if not self.busy:
            self._begin(now)
        elif self._span > 1:  # the span ends with the iteration that runs now
            done = int((now - self._started_at) / self._length)
            self._span = min(self._span, done + 1)
            self.ends_at = self._started_at + self._span * self._length

    def advance(self, now: float) -> list[Work]:
        """Finish the iterations until `ends_at`; return the requests that ended."""
        self._iteration += self._span
        ended: list[Work] = []
        while self._finishing and self._finishing[0][0] <= self._iteration:
            ended.append(heapq.heappop(self._finishing)[2])
        for work in self._prefilled:
            work.first_token_at = now
            if work.output_tokens == 1:
                ended.append(work)
            else:
                self._serial += 1
                due = self._iteration + work.output_tokens - 1
                heapq.heappush(self._finishing, (due, self._serial, work))
        self._prefilled = []
        self._begin(now)
        return ended

    def _begin(self, now: float) -> None:
        if not self._prefill and not self._finishing:
            self.ends_at = math.inf
            return
        left, taken = self.speed.chunk_tokens, 0
        while self._prefill and left > 0:
            work = self._prefill[0]
            part = min(work.to_prefill, left)
            work.to_prefill -= part
            left -= part
            taken += part
            if work.to_prefill == 0:
                self._prefilled.append(self._prefill.pop(0))
        self._length = self.speed.iteration_seconds(len(self._finishing), taken)
        self._span = 1 if taken else self._finishing[0][0] - self._iteration
        self._started_at = now
        self.ends_at = now + self._span * self._length
