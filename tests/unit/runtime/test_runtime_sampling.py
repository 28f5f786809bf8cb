"""Sampling: greedy, repeatable, and within the top_p mass."""

from __future__ import annotations

import pytest
import torch

from r1_runtime.engine.sampling import generator_for, sample
from r1_runtime.engine.sequence import SamplingParams

LOGITS = torch.tensor([[0.0, 3.0, 2.0, -1.0]])


def draw(params: SamplingParams, count: int) -> list[int]:
    generator = generator_for(params, "cpu")
    drawn = [sample(LOGITS, [params], [generator])[0] for _ in range(count)]
    return [token for token in drawn if token is not None]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_non_finite_row_has_no_token_and_others_are_sampled(
    value: float, temperature: float
) -> None:
    rows = LOGITS.repeat(3, 1)
    rows[1, 2] = value
    params = [SamplingParams(temperature=temperature, seed=1, top_p=0.5)] * 3
    generators = [generator_for(one, "cpu") for one in params]
    assert sample(rows, params, generators) == [1, None, 1]


def test_temperature_zero_selects_the_most_probable_token() -> None:
    assert set(draw(SamplingParams(temperature=0), 5)) == {1}


def test_same_seed_repeats_and_another_seed_differs() -> None:
    first = draw(SamplingParams(seed=7), 40)
    assert first == draw(SamplingParams(seed=7), 40)
    assert first != draw(SamplingParams(seed=8), 40)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    # Probabilities are about 0.035, 0.70, 0.26 and 0.013.
    assert set(draw(SamplingParams(seed=1, top_p=0.69), 200)) == {1}
    assert set(draw(SamplingParams(seed=1, top_p=0.9), 200)) == {1, 2}


def test_frequencies_follow_the_tempered_distribution() -> None:
    drawn = torch.tensor(draw(SamplingParams(seed=3, temperature=2.0), 4000))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = torch.softmax(LOGITS[0] / 2, -1)
    assert (share - expected).abs().max() < 0.04


def test_rows_of_one_batch_use_their_own_parameters() -> None:
    rows = LOGITS.expand(2, -1)
    params = [SamplingParams(temperature=0), SamplingParams(temperature=2.0, seed=0)]
    alone = generator_for(params[1], "cpu")
    together = generator_for(params[1], "cpu")
    expected = [sample(LOGITS, params[1:], [alone])[0] for _ in range(20)]
    both = [sample(rows, params, [None, together]) for _ in range(20)]
    assert [pair[0] for pair in both] == [1] * 20
    assert [pair[1] for pair in both] == expected
