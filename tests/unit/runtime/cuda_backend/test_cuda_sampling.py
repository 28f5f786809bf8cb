"""The sampling kernel of the CUDA backend takes the tokens that the specification takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from interpreted_triton import DEVICE
from r1_runtime.backends.cuda.sampler import sample_on_device
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.sampling_plan import SamplingPlan, greedy_plan

ROWS, VOCABULARY = 8, 2100  # two tiles of the kernel


def logits_of(seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    values = np.random.default_rng(seed).standard_normal((ROWS, VOCABULARY)) * 3
    return values.astype(np.float32)


def drawing(**changes: object) -> SamplingPlan:
    base = replace(
        greedy_plan(ROWS),
        temperatures=np.full(ROWS, 0.8, np.float32),
        seeds=np.arange(ROWS, dtype=np.uint64) * 977 + 2**63,
        counters=np.arange(ROWS, dtype=np.uint64) + 2**33,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def floats(value: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.full(ROWS, value, np.float32)


def top_k(count: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.full(ROWS, count, np.int32)


PLANS = {
    "greedy": greedy_plan(ROWS),
    "temperature": drawing(),
    "high temperature": drawing(temperatures=floats(3.0)),
    "greedy and drawn": drawing(temperatures=np.arange(ROWS).astype(np.float32) % 2),
    "top-p": drawing(top_p=floats(0.9)),
    "top-p of almost nothing": drawing(top_p=floats(0.01)),
    "top-k": drawing(top_k=top_k(5)),
    "top-k above the vocabulary": drawing(top_k=top_k(5000)),
    "min-p": drawing(min_p=floats(0.2)),
    "all filters": drawing(top_k=top_k(40), top_p=floats(0.7), min_p=floats(0.05)),
    "targets": drawing(targets=np.arange(ROWS, dtype=np.int32) - 1),
    "most probable tokens": drawing(top_counts=np.arange(ROWS, dtype=np.int32)),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("ties", [False, True])
def test_the_device_takes_the_specified_tokens(plan: SamplingPlan, ties: bool) -> None:
    logits = np.round(logits_of()) if ties else logits_of()
    expected = sample_rows(logits, plan)
    result = sample_on_device(torch.from_numpy(logits).to(DEVICE), plan)
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    np.testing.assert_allclose(result.logprobs, expected.logprobs, atol=1e-5)
    for row, tokens in enumerate(expected.top_tokens):
        np.testing.assert_array_equal(result.top_tokens[row], tokens)
        np.testing.assert_allclose(result.top_logprobs[row], expected.top_logprobs[row], atol=1e-5)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_has_no_token_and_changes_no_other(bad: float) -> None:
    logits = logits_of()
    logits[3, 2050] = bad
    plan = drawing(top_p=floats(0.9))
    expected = sample_rows(logits, plan)
    result = sample_on_device(torch.from_numpy(logits).to(DEVICE), plan)
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    assert result.tokens[3] == -1
    assert np.isnan(result.logprobs[3])
    np.testing.assert_allclose(result.logprobs, expected.logprobs, atol=1e-5)


def test_penalties_and_masks_are_sampled_by_the_specification() -> None:
    plan = drawing(
        adjust_starts=np.arange(ROWS + 1, dtype=np.int32),
        adjust_tokens=np.arange(ROWS, dtype=np.int32),
        adjust_values=np.ones((ROWS, 3), np.float32) * 9,
        masks=np.where(np.arange(ROWS) == 7, 0, -1).astype(np.int32),
        mask_bits=np.zeros((1, -(-VOCABULARY // 32)), np.uint32),
    )
    logits = logits_of()
    expected = sample_rows(logits, plan)
    result = sample_on_device(torch.from_numpy(logits).to(DEVICE), plan)
    np.testing.assert_array_equal(result.tokens, expected.tokens)
    assert result.tokens[7] == -1
