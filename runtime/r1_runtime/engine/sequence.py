"""A request inside the engine: its tokens, the number computed, its cache blocks.

A sequence has no prefill or decode state. The uncomputed tokens are the whole of a new prompt, one
token of a running request, or all tokens after a preemption.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from r1_runtime.engine.block_identity import BlockIdentity
from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.engine.sampling_params import SamplingParams


class Finish(enum.StrEnum):
    """Reason for the end of a sequence: OpenAI's `finish_reason`, plus abort and error."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class Pooling(enum.StrEnum):
    """How the hidden states of a prompt become one vector."""

    MEAN = "mean"
    LAST = "last"


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
    salt: str = ""  # only sequences of the same salt share cache blocks
    skip_reading_prefix_cache: bool = False  # every prompt token needs its row, for its logits
    pooling: Pooling | None = None  # pool hidden states instead of sampling
    cached_tokens: int = 0  # prompt tokens found in the cache at the first admission
    identities: list[BlockIdentity] = field(default_factory=list)  # of the first full blocks

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

    def identity(self, index: int, block_size: int) -> BlockIdentity:
        """Identity of the full block `index`."""
        while len(self.identities) <= index:
            start = len(self.identities) * block_size
            parent = self.identities[-1] if self.identities else None
            tokens = self.tokens[start : start + block_size]
            salt = self.salt if parent is None else ""
            self.identities.append(BlockIdentity(parent, tokens, salt))
        identity = self.identities[index]
        if index:
            # An equal object of the pool may have replaced the parent.
            identity.parent = self.identities[index - 1]
        return identity
