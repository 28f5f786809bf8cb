"""Parameter arrays of a step, built from the state of its sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from r1_runtime.backends.reference.sampler import sample_rows
from r1_runtime.engine.sampling_arrays import (
    SamplingPlans,
    SamplingRow,
    SequenceSampling,
    build_sampling_plan,
)
from r1_runtime.engine.sampling_params import SamplingParams

END = 0
VOCABULARY = 8


def adjusted(params: SamplingParams, prompt: list[int], output: list[int]) -> dict[int, Any]:
    """token -> (factor, factor, addend), built token by token."""
    state = SequenceSampling(params, len(prompt), [END])
    for end in range(len(prompt), len(prompt) + len(output) + 1):
        state.advance((prompt + output)[:end])
    tokens, values = state.adjustments()
    assert len(set(tokens.tolist())) == len(tokens)
    return dict(zip(tokens.tolist(), values.tolist(), strict=True))


def test_plain_greedy_rows_share_one_constant_plan() -> None:
    row = SamplingRow(SequenceSampling(SamplingParams(temperature=0), 3), 3)
    assert build_sampling_plan([row, row]) is build_sampling_plan([row, row])


def test_min_tokens_excludes_end_and_stop_tokens_until_it_is_reached() -> None:
    params = SamplingParams(min_tokens=2, stop_token_ids=(5,), logit_bias=((5, 2.0),))
    before = adjusted(params, [1], [3])
    assert (before[END][2], before[5][2]) == (-np.inf, -np.inf)
    after = adjusted(params, [1], [3, 3])
    assert (after[END][2], after[5][2]) == (0.0, 2.0)


def test_min_tokens_leaves_the_end_token_of_a_request_that_ignores_it() -> None:
    assert adjusted(SamplingParams(min_tokens=2, ignore_eos=True), [1], []) == {}


def test_random_seeds_differ_and_given_seeds_are_64_bits() -> None:
    seeds = {SequenceSampling(SamplingParams(), 1).seed for _ in range(10)}
    assert len(seeds) == 10
    assert SequenceSampling(SamplingParams(seed=-1), 1).seed == 2**64 - 1


@settings(max_examples=200, deadline=None)
@given(
    prompt=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8),
    output=st.lists(st.integers(0, VOCABULARY - 1), max_size=30),
    repetition=st.sampled_from([1.0, 1.5]),
    presence=st.sampled_from([0.0, 0.5]),
    frequency=st.sampled_from([0.0, -0.25]),
    bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.sampled_from([-100.0, 2.0])),
)
def test_penalties_equal_their_definition_over_the_whole_sequence(
    prompt: list[int],
    output: list[int],
    repetition: float,
    presence: float,
    frequency: float,
    bias: dict[int, float],
) -> None:
    params = SamplingParams(
        temperature=0,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=tuple(bias.items()),
    )
    values = adjusted(params, prompt, output)
    for token in range(VOCABULARY):
        count = output.count(token)
        repeated = token in prompt or token in output
        factors = (1 / repetition, repetition) if repeated else (1.0, 1.0)
        addend = bias.get(token, 0.0) - frequency * count - presence * (count > 0)
        expected = np.array([*factors, addend])
        np.testing.assert_allclose(values.get(token, [1, 1, 0]), expected, atol=1e-4)


def test_rows_with_and_without_masks_and_targets_are_one_plan() -> None:
    sampling = SequenceSampling(SamplingParams(seed=1, top_k=3, logit_bias=((2, 9.0),)), 1)
    greedy = SequenceSampling(SamplingParams(temperature=0), 1)
    rows = [
        SamplingRow(greedy, 4, mask=np.array([0b100000], np.uint32)),
        SamplingRow(sampling, 4),
        SamplingRow(sampling, 2, target=7, top_count=1),
        SamplingRow(greedy, 4, mask=np.array([0b1000], np.uint32)),
    ]
    plan = build_sampling_plan(rows)
    assert plan.masks.tolist() == [0, -1, -1, 1]
    assert plan.adjust_starts.tolist() == [0, 0, 1, 1, 1]
    result = sample_rows(np.zeros((4, VOCABULARY), np.float32), plan)
    assert result.tokens[[0, 2, 3]].tolist() == [5, 7, 3]
    assert [len(top) for top in result.top_tokens] == [0, 0, 1, 0]


def test_a_plan_is_kept_while_the_same_sequences_draw_and_follows_their_positions() -> None:
    states = [SequenceSampling(SamplingParams(temperature=0.8, seed=seed), 4) for seed in (1, 2)]
    plans = SamplingPlans()
    first = plans.plan([SamplingRow(state, 4) for state in states])
    second = plans.plan([SamplingRow(state, 5) for state in states])
    assert second is first
    np.testing.assert_array_equal(second.counters, [5, 5])
    np.testing.assert_array_equal(second.seeds, [1, 2])
    alone = plans.plan([SamplingRow(states[1], 6)])
    np.testing.assert_array_equal(alone.seeds, [2])
    scored = plans.plan([SamplingRow(states[1], 7, target=3)])
    np.testing.assert_array_equal(scored.targets, [3])
    assert plans.plan([SamplingRow(states[1], 7)]).targets.tolist() == [-1]
