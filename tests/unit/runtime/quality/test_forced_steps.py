"""Teacher forcing on a backend: chunks, single tokens and shared blocks give the same scores."""

from __future__ import annotations

import numpy as np
import pytest

from memory_checkpoint import MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.errors import OptionError
from r1_runtime.quality.forced_steps import ForcedDecoder, ScoringJob, TokenScores

BLOCKS, BLOCK = 12, 16


@pytest.fixture(scope="module", params=["grouped", "latent"])
def backend(request: pytest.FixtureRequest) -> CpuBackend:
    attention = grouped() if request.param == "grouped" else latent()
    checkpoint = MemoryCheckpoint(description(attention))
    return CpuBackend(checkpoint, blocks=BLOCKS, block_size=BLOCK)


def decoder(backend: CpuBackend, step: int = 32) -> ForcedDecoder:
    return ForcedDecoder(backend, blocks=BLOCKS, block_size=BLOCK, step_tokens=step)


def text(length: int, seed: int = 0) -> list[int]:
    drawn: list[int] = np.random.default_rng(seed).integers(0, 100, length).tolist()
    return drawn


def close(one: TokenScores, other: TokenScores) -> None:
    np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
    np.testing.assert_array_equal(one.predicted, other.predicted)


@pytest.mark.parametrize("tail", [0, 1, 17, 58])
@pytest.mark.parametrize("step", [7, 16, 64])
def test_scores_depend_neither_on_chunks_nor_on_single_tokens(
    backend: CpuBackend, tail: int, step: int
) -> None:
    tokens = text(60)
    [whole] = decoder(backend, 64).score([ScoringJob(tokens)])
    [scores] = decoder(backend, step).score([ScoringJob(tokens, tail=tail)])
    assert len(scores.logprobs) == 59
    close(scores, whole)


def test_scores_are_the_log_probabilities_of_the_logits(backend: CpuBackend) -> None:
    """A score is what a step with the same rows returns as logits."""
    tokens = text(20)
    [scores] = decoder(backend).score([ScoringJob(tokens)])
    plan = step_plan([Row(tokens, 0, 19, range(2))])
    _, logits = backend.step_with_logits(plan)
    shifted = logits - logits.max(1, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    np.testing.assert_allclose(scores.logprobs, expected[np.arange(19), tokens[1:]], atol=1e-4)
    np.testing.assert_array_equal(scores.predicted, logits.argmax(1))


def test_first_scored_token_leaves_out_those_before_it(backend: CpuBackend) -> None:
    tokens = text(40)
    [whole] = decoder(backend).score([ScoringJob(tokens)])
    for tail in (0, 5, 30):
        [end] = decoder(backend).score([ScoringJob(tokens, first=20, tail=tail)])
        close(end, TokenScores(whole.logprobs[19:], whole.predicted[19:]))


def test_sequence_behind_a_shared_prefix_has_the_same_scores(backend: CpuBackend) -> None:
    tokens = text(70)
    user = decoder(backend)
    [alone] = user.score([ScoringJob(tokens, first=50, tail=4)])
    base = user.open()
    user.prefill(base, tokens[:45])
    branch = user.open(base, 45)
    assert (branch.length, branch.blocks) == (32, base.blocks[:2])
    [shared] = user.score([ScoringJob(tokens, first=50, tail=4, prefix=branch)])
    close(shared, alone)


def test_many_texts_are_scored_in_batches_and_every_block_is_free_afterwards(
    backend: CpuBackend,
) -> None:
    user = decoder(backend)
    jobs = [ScoringJob(text(70, seed), tail=seed % 7) for seed in range(6)]
    together = user.score(jobs)
    for job, scores in zip(jobs, together, strict=True):
        close(scores, user.score([job])[0])
    assert sorted(user._free) == list(range(BLOCKS))
    assert not user._uses


def test_greedy_text_repeats_the_most_probable_tokens(backend: CpuBackend) -> None:
    user = decoder(backend)
    prompts = [text(20), text(33, 1)]
    outputs = user.generate(prompts, 9)
    for prompt, output in zip(prompts, outputs, strict=True):
        [scores] = user.score([ScoringJob(prompt + output, first=len(prompt))])
        assert scores.predicted.tolist() == output
    assert sorted(user._free) == list(range(BLOCKS))


def test_text_that_exceeds_the_cache_is_refused(backend: CpuBackend) -> None:
    with pytest.raises(OptionError, match="holds 192 tokens, but a text of 193 tokens"):
        decoder(backend).score([ScoringJob(text(193))])
