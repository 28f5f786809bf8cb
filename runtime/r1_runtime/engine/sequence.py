"""A request inside the engine: its tokens, the number computed, its cache blocks.

A sequence has no prefill or decode state. The uncomputed tokens are the whole of a new prompt, one
token of a running request, or all tokens after a preemption.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.engine.sampling_params import SamplingParams


class Finish(enum.StrEnum):
    """Reason for the end of a sequence: OpenAI's `finish_reason`, plus abort and error."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(slots=True, eq=False)
class Sequence:
    """A waiting or running request. Compared by identity."""

    id: str
    tokens: list[int]  # the prompt, then the generated tokens
    prompt_length: int
    params: SamplingParams
    arrived: float  # seconds on the engine's clock
    blocks: list[int] = field(default_factory=list)
    computed: int = 0  # tokens whose latents are in the cache
    first_scheduled: float | None = None
    finish: Finish | None = None
    priority: int = 1  # the smaller, the sooner its prompt is computed
    constraint: TokenConstraint | None = None
    cached_tokens: int = 0  # prompt tokens that were read from the prefix cache

    @property
    def uncomputed(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    def blocks_for(self, length: int, block_size: int) -> int:
        """Number of blocks to add so that `length` tokens fit."""
        return max(0, -(-length // block_size) - len(self.blocks))
