"""One request inside the engine: its tokens, how far they are computed, its cache blocks.

There is no prefill state and no decode state. A sequence has tokens, some of them are computed,
and whatever is missing must be caught up: all of a new prompt, one token of a running request,
everything again after a preemption.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Finish(enum.StrEnum):
    """Why a sequence ended; the words of OpenAI's `finish_reason`, and ours beyond."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How tokens are chosen and when to stop.

    Attributes:
        max_tokens: tokens to generate at most, at least 1.
        temperature: 0 picks the likeliest token.
        top_p: the probability mass that is kept, in (0, 1].
        seed: makes a request repeatable; None draws fresh.
        stop: texts that end the output and are not part of it.
        ignore_eos: go on after the model's end token (load generators ask for it).
    """

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(slots=True, eq=False)
class Sequence:
    """A request being worked on. Compared by identity."""

    id: str
    tokens: list[int]  # the prompt, then what was generated
    prompt_length: int
    params: SamplingParams
    arrived: float  # seconds on the engine's clock
    blocks: list[int] = field(default_factory=list)
    computed: int = 0  # tokens whose latents are in the cache
    first_scheduled: float | None = None
    finish: Finish | None = None
    urgency: int = 1  # the smaller, the sooner its prompt is computed

    @property
    def missing(self) -> int:
        """Tokens still to be computed before the next one can be sampled."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    def blocks_for(self, length: int, block_size: int) -> int:
        """Blocks to add so that `length` tokens fit."""
        return max(0, -(-length // block_size) - len(self.blocks))
