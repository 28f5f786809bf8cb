"""Sampling parameters and stop conditions of one sequence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters and stop conditions, with vLLM's names and meanings.

    Attributes:
        max_tokens: tokens to generate at most, at least 1.
        min_tokens: tokens before an end token or a stop token may be sampled.
        temperature: 0 selects the most probable token.
        top_p: probability mass to sample from, in (0, 1].
        top_k: number of most probable tokens to sample from; 0 for all.
        min_p: least probability, as a share of the most probable token's; 0 for none.
        seed: makes a request repeatable; None uses a random seed.
        stop: strings that end the output and are not part of it.
        stop_token_ids: tokens that end the output and are not part of its text.
        ignore_eos: continue after the model's end token, for load generators.
        presence_penalty: subtracted from the logit of each token in the output.
        frequency_penalty: subtracted once for each occurrence in the output.
        repetition_penalty: divides the positive logits, and multiplies the negative logits, of the
            tokens in the prompt and in the output; 1 for none.
        logit_bias: (token, addend to its logit).
        logprobs: number of most probable tokens to return beside the sampled one; None for no
            log-probabilities.
        prompt_logprobs: the same for each prompt token after the first.
    """

    max_tokens: int = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
