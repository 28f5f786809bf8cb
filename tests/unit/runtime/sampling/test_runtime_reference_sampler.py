"""The reference sampler: distribution, filters, adjustments, masks, log-probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from r1_runtime.backends.reference.philox import philox, uniform
from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.backends.sampling_plan import SamplingPlan, greedy_plan

LOGITS = np.array([0.0, 3.0, 2.0, -1.0], np.float32)


def plan(rows: int, **arrays: Any) -> SamplingPlan:
    base = greedy_plan(rows)
    given = {
        name: np.broadcast_to(np.asarray(value, getattr(base, name).dtype), rows).copy()
        for name, value in arrays.items()
    }
    return replace(base, **given)


def draws(logits: NDArray[np.float32], count: int, **arrays: Any) -> NDArray[np.int32]:
    """`count` tokens at positions 0, 1, 2, ... of one sequence."""
    rows = np.tile(logits, (count, 1))
    given: dict[str, Any] = {"temperatures": 1, "seeds": 3, "counters": np.arange(count)} | arrays
    return sample_rows(rows, plan(count, **given)).tokens


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF,) * 4,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0xA4093822, 0x299F31D0),
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_equals_the_published_vectors(
    key: tuple[int, ...], counter: tuple[int, ...], words: tuple[int, ...]
) -> None:
    k, c = ([np.array([one], np.uint64) for one in values] for values in (key, counter))
    assert [int(word[0]) for word in philox((k[0], k[1]), (c[0], c[1], c[2], c[3]))] == [*words]


def test_draws_are_uniform_over_positions_and_over_seeds() -> None:
    numbers = np.arange(20000, dtype=np.uint64)
    for drawn in (uniform(numbers * 0 + 5, numbers), uniform(numbers, numbers * 0 + 9)):
        assert drawn.min() >= 0
        assert drawn.max() < 1
        # Kolmogorov-Smirnov: 1.95 / sqrt(n) is exceeded once in a thousand times.
        distance = np.abs(np.sort(drawn) - (np.arange(20000) + 0.5) / 20000).max()
        assert distance < 1.95 / np.sqrt(20000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_non_finite_row_has_no_token_and_others_are_sampled(
    value: float, temperature: float
) -> None:
    rows = np.tile(LOGITS, (3, 1))
    rows[1, 2] = value
    result = sample_rows(rows, plan(3, temperatures=temperature, top_p=0.5, top_counts=2))
    assert result.tokens.tolist() == [1, -1, 1]
    assert np.isnan(result.logprobs[1])
    assert [len(top) for top in result.top_tokens] == [2, 0, 2]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 2.0])
def test_frequencies_follow_the_tempered_distribution(temperature: float) -> None:
    drawn = draws(LOGITS, 20000, temperatures=temperature)
    weights = np.exp(LOGITS.astype(float) / temperature)
    expected = 20000 * weights / weights.sum()
    seen = np.bincount(drawn, minlength=4)
    chi_square = ((seen - expected) ** 2 / expected)[expected > 5].sum()
    assert chi_square < 16.3  # exceeded once in a thousand times with 3 degrees of freedom


def test_result_does_not_depend_on_the_batch() -> None:
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(8, 50)).astype(np.float32) * 3
    seeds = generator.integers(0, 2**63, 8).astype(np.uint64)
    whole = plan(8, temperatures=0.9, top_p=0.8, top_k=20, seeds=seeds, counters=np.arange(8))
    together = sample_rows(rows, whole)
    for row in range(8):
        alone = plan(1, temperatures=0.9, top_p=0.8, top_k=20, seeds=seeds[row], counters=row)
        assert sample_rows(rows[row : row + 1], alone).tokens[0] == together.tokens[row]


def allowed_by_definition(
    logits: NDArray[np.float32], temperature: float, top_k: int, top_p: float, min_p: float
) -> set[int]:
    """The filters, one token at a time."""
    best = float(logits.max())
    weights = {at: np.exp((float(one) - best) / temperature) for at, one in enumerate(logits)}
    if top_k:
        least = sorted(logits, reverse=True)[min(top_k, len(logits)) - 1]
        weights = {at: weight for at, weight in weights.items() if logits[at] >= least}
    if top_p < 1:
        order = sorted(weights, key=lambda at: (-weights[at], at))
        total, reached, kept = float(np.cumsum([weights[at] for at in order])[-1]), 0.0, set()
        for at in order:
            kept.add(at)
            reached += weights[at]
            if reached >= top_p * total:
                break
        weights = {at: weight for at, weight in weights.items() if at in kept}
    return {at for at, weight in weights.items() if weight >= min_p and weight > 0}


@settings(max_examples=300, deadline=None)
@given(
    logits=st.lists(st.integers(-6, 6), min_size=1, max_size=12),
    temperature=st.sampled_from([0.5, 1.0, 1.7]),
    top_k=st.integers(0, 14),
    top_p=st.sampled_from([0.05, 0.3, 0.5, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_filters_leave_the_tokens_of_the_definition(
    logits: list[int], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    row = np.array(logits, np.float32)
    filters = {"temperatures": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    drawn = set(draws(row, 300, **filters).tolist())
    values = {name: float(np.float32(value)) for name, value in filters.items()}
    allowed = allowed_by_definition(
        row, values["temperatures"], top_k, values["top_p"], values["min_p"]
    )
    assert drawn <= allowed
    assert int(row.argmax()) in allowed


def test_adjustments_and_masks_change_the_choice_and_not_the_logprob() -> None:
    rows = np.tile(LOGITS, (4, 1))
    adjusted = replace(
        greedy_plan(4),
        adjust_starts=np.array([0, 0, 1, 3, 3], np.int32),
        adjust_tokens=np.array([1, 1, 3], np.int32),
        adjust_values=np.array([[0.5, 2, 0], [1, 1, -100], [1, 1, 50]], np.float32),
        masks=np.array([-1, -1, -1, 0], np.int32),
        mask_bits=np.array([[0b1001]], np.uint32),
    )
    result = sample_rows(rows, adjusted)
    assert result.tokens.tolist() == [1, 2, 3, 0]
    expected = LOGITS - np.log(np.exp(LOGITS).sum())
    np.testing.assert_allclose(result.logprobs, expected[result.tokens], atol=1e-6)


def test_a_negative_logit_is_multiplied_by_its_own_factor() -> None:
    rows = np.array([[-1.0, -1.5]], np.float32)
    adjusted = replace(
        greedy_plan(1),
        adjust_starts=np.array([0, 1], np.int32),
        adjust_tokens=np.array([0], np.int32),
        adjust_values=np.array([[0.5, 2, 0]], np.float32),
    )
    assert sample_rows(rows, adjusted).tokens.tolist() == [1]


def test_a_row_without_an_allowed_token_has_no_token() -> None:
    nothing = replace(
        plan(1, temperatures=1),
        masks=np.zeros(1, np.int32),
        mask_bits=np.zeros((1, 1), np.uint32),
    )
    assert sample_rows(LOGITS[None], nothing).tokens.tolist() == [-1]


def test_a_target_is_scored_and_the_most_probable_tokens_are_returned_best_first() -> None:
    result = sample_rows(np.tile(LOGITS, (2, 1)), plan(2, targets=[3, -1], top_counts=[2, 9]))
    expected = LOGITS - np.log(np.exp(LOGITS).sum())
    assert result.tokens.tolist() == [3, 1]
    np.testing.assert_allclose(result.logprobs, expected[[3, 1]], atol=1e-6)
    assert result.top_tokens[0].tolist() == [1, 2]
    assert result.top_tokens[1].tolist() == [1, 2, 0, 3]
    np.testing.assert_allclose(result.top_logprobs[1], expected[[1, 2, 0, 3]], atol=1e-6)
