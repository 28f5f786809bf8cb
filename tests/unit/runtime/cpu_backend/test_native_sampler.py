"""The native sampler against its specification, `backends/reference/sampler.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memory_checkpoint import MemoryCheckpoint, description, grouped
from paged_steps import Row, step_plan
from r1_runtime.backends.cpu.backend import CpuBackend
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.sampling_plan import NO_LOGPROB, SamplingPlan, greedy_plan
from r1_runtime.backends.step_plan import StepResult

ROWS = 24
VOCABULARY = 131


@pytest.fixture(scope="module")
def native() -> CpuBackend:
    return CpuBackend(MemoryCheckpoint(description(grouped())), blocks=4, block_size=16, threads=2)


def both(native: CpuBackend, sampling: SamplingPlan) -> tuple[StepResult, StepResult]:
    """The native result and the specification's, for the same logits."""
    prompt = np.random.default_rng(3).integers(0, VOCABULARY, ROWS).tolist()
    plan = step_plan([Row(prompt, 0, ROWS, range(4))], sampling=sampling)
    result, logits = native.step_with_logits(plan)
    return result, sample_rows(logits, sampling)


def drawing(**changes: object) -> SamplingPlan:
    base = replace(
        greedy_plan(ROWS),
        temperatures=np.full(ROWS, 0.8, np.float32),
        seeds=np.arange(ROWS, dtype=np.uint64) * 977,
        counters=np.arange(ROWS, dtype=np.uint64) + 2**33,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def floats(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(ROWS, value, np.float32)


@pytest.mark.parametrize(
    "sampling",
    [
        greedy_plan(ROWS),
        drawing(),
        drawing(temperatures=floats(3.0)),
        drawing(top_p=floats(0.9)),
        drawing(top_p=floats(0.01)),
        drawing(top_k=np.full(ROWS, 5, np.int32)),
        drawing(top_k=np.full(ROWS, 500, np.int32)),
        drawing(min_p=floats(0.2)),
        drawing(top_k=np.full(ROWS, 40, np.int32), top_p=floats(0.7), min_p=floats(0.05)),
        drawing(targets=np.arange(ROWS, dtype=np.int32)),
        drawing(top_counts=np.arange(ROWS, dtype=np.int32)),
    ],
)
def test_the_native_sampler_takes_the_specified_tokens(
    native: CpuBackend, sampling: SamplingPlan
) -> None:
    result, expected = both(native, sampling)
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    np.testing.assert_allclose(result.logprobs, expected.logprobs, atol=1e-5)
    if sampling.top_counts.any():
        for row, tokens in enumerate(expected.top_tokens):
            np.testing.assert_array_equal(result.top_tokens[row], tokens)
            np.testing.assert_allclose(
                result.top_logprobs[row], expected.top_logprobs[row], atol=1e-5
            )


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0], ids=["flat", "as drawn", "peaked"])
def test_the_native_sampler_takes_the_specified_tokens_of_a_large_vocabulary(scale: float) -> None:
    vocabulary = 5003
    checkpoint = MemoryCheckpoint(description(grouped(), vocab_size=vocabulary))
    checkpoint.weights["lm_head.weight"] *= scale
    native = CpuBackend(checkpoint, blocks=4, block_size=16)
    random = np.random.default_rng(11)
    # Equal logits: each token of the second half has the weights of one of the first.
    half = vocabulary // 2
    checkpoint.weights["lm_head.weight"][half : 2 * half] = checkpoint.weights["lm_head.weight"][
        :half
    ]
    ties = CpuBackend(checkpoint, blocks=4, block_size=16)
    for model in (native, ties):
        for _ in range(6):
            sampling = drawing(
                temperatures=random.choice([0.3, 0.8, 1.5], ROWS).astype(np.float32),
                top_p=random.choice([0.02, 0.5, 0.95, 0.999, 1], ROWS).astype(np.float32),
                top_k=random.choice([0, 0, 1, 7, 40, 255, 1000], ROWS).astype(np.int32),
                min_p=random.choice([0, 0.05, 0.9], ROWS).astype(np.float32),
                seeds=random.integers(0, 2**63, ROWS).astype(np.uint64),
            )
            result, expected = both(model, sampling)
            np.testing.assert_array_equal(result.tokens, expected.tokens)


def test_a_row_whose_logprob_is_not_read_draws_the_same_token(native: CpuBackend) -> None:
    sampling = drawing(top_p=floats(0.9))
    silent = replace(sampling, top_counts=np.full(ROWS, NO_LOGPROB, np.int32))
    np.testing.assert_array_equal(both(native, silent)[0].tokens, both(native, sampling)[0].tokens)


def test_the_native_sampler_applies_adjustments_and_masks_as_specified(native: CpuBackend) -> None:
    random = np.random.default_rng(0)
    words = -(-VOCABULARY // 32)
    sampling = drawing(
        temperatures=np.where(np.arange(ROWS) % 2, 0, 1).astype(np.float32),
        adjust_starts=np.arange(ROWS + 1, dtype=np.int32) * 10,
        adjust_tokens=np.concatenate(
            [random.permutation(VOCABULARY)[:10] for _ in range(ROWS)]
        ).astype(np.int32),
        adjust_values=np.abs(random.standard_normal((ROWS * 10, 3))).astype(np.float32),
        masks=np.where(np.arange(ROWS) % 3, -1, np.arange(ROWS) // 3).astype(np.int32),
        mask_bits=random.integers(0, 2**32, (ROWS // 3, words), dtype=np.uint32),
    )
    result, expected = both(native, sampling)
    np.testing.assert_array_equal(result.tokens, expected.tokens)


def test_a_row_without_an_allowed_token_has_no_token(native: CpuBackend) -> None:
    sampling = drawing(
        masks=np.where(np.arange(ROWS) == 7, 0, -1).astype(np.int32),
        mask_bits=np.zeros((1, -(-VOCABULARY // 32)), np.uint32),
    )
    result, expected = both(native, sampling)
    assert result.tokens[7] == expected.tokens[7] == -1
    assert (np.delete(result.tokens, 7) >= 0).all()
