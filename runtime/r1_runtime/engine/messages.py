"""Inputs and outputs of the engine: plain values that both threads use."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from r1_runtime.engine.constraint import TokenConstraint
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.sequence import Finish, Pooling, Sequence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Decode = Callable[[Rows[int]], str]


@dataclass(frozen=True, slots=True)
class Request:
    """A request for generation.

    Attributes:
        id: unique among the requests in flight.
        prompt: at least one token.
        params: sampling parameters and stop conditions.
        arrived: seconds of `time.monotonic`.
        priority: the smaller, the sooner its prompt is computed.
        constraint: allowed tokens, or None for all.
        decode: converts output tokens to text; None for the engine's function, which omits special
            tokens.
        cache_salt: requests with different salts share no cached prompt.
        pooling: pool the hidden states of the prompt instead of generating.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    arrived: float  # seconds, `time.monotonic`
    priority: int = 1  # the smaller, the sooner its prompt is computed
    constraint: TokenConstraint | None = None
    decode: Decode | None = None
    cache_salt: str | None = None  # only requests of the same salt share cached prefixes
    pooling: Pooling | None = None


class TokenLogprobs(NamedTuple):
    """Log-probability of one token, and of the most probable tokens at its position, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SampledRow:
    """Result of one output row of a step.

    Attributes:
        sequence: the row's sequence.
        token: the next token, or the scored prompt token; None where the logits are not finite.
        logprobs: for requests with log-probabilities.
        scored: position of the scored prompt token; None for a sampled token.
        embedding: [hidden] float32, the pooled hidden states of a whole prompt; then no token.
    """

    sequence: Sequence
    token: int | None
    logprobs: TokenLogprobs | None = None
    scored: int | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Timestamps of a finished request, in seconds of `time.monotonic`."""

    arrived: float
    scheduled: float | None
    first_token: float | None
    finished: float


@dataclass(frozen=True, slots=True)
class Output:
    """New output of one request after a step.

    Attributes:
        request_id: the request.
        text: new text. It may belong to earlier tokens: an incomplete character is buffered.
        new_tokens: number of new tokens; an end token counts and has no text.
        generated: tokens so far.
        time_to_first_token: seconds from arrival, with the first token only.
        finish: reason, with the last output.
        timing: with the last output of a request that was scheduled.
        error: cause of Finish.ERROR.
        token_ids: the new tokens.
        logprobs: one entry per new token, where requested.
        prompt_logprobs: one entry per prompt token after the first, with the first token.
        cached_tokens: prompt tokens that were read from the prefix cache.
        token_gap: seconds since the previous token of this request; None for the first one.
        embedding: [hidden] float32, the pooled hidden states, for a request with pooling.
    """

    request_id: str
    text: str
    new_tokens: int
    generated: int
    time_to_first_token: float | None = None
    finish: Finish | None = None
    timing: Timing | None = None
    error: str | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    cached_tokens: int = 0  # prompt tokens found in the prefix cache
    token_gap: float | None = None
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of the engine after a step.

    Attributes:
        running: sequences with a seat.
        waiting: sequences without one.
        cache_usage: fraction of cache blocks in use, 0 to 1.
        preemptions: since the start.
        step_tokens: tokens computed in the step.
        prefix_cache_queries: prompt tokens looked up in the prefix cache since the start.
        prefix_cache_hits: those found.
        drafts: chunks with draft tokens, since the start.
        draft_tokens: their draft tokens.
        accepted_tokens: those of them that the model sampled too.
        attention_read_tokens: cache tokens that sparse attention read; once per layer, row and head.
        attention_context_tokens: tokens of the contexts of those rows, counted in the same way.
    """

    running: int = 0
    waiting: int = 0
    cache_usage: float = 0.0
    preemptions: int = 0
    step_tokens: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    attention_read_tokens: int = 0
    attention_context_tokens: int = 0


@dataclass(slots=True)
class AttentionReads:
    """Cache tokens that sparse attention read, and tokens of the contexts, since the start."""

    read: int = 0
    context: int = 0


Deliver = Callable[[list[Output], EngineState], None]
