"""Weights and weighted median of the mixture."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.selection.mixture import mix, mixed, prior, rolling_weights

ORIGINS = np.arange(200)


def test_the_better_model_weighs_more_but_only_once_its_outcomes_have_passed() -> None:
    losses = np.column_stack([np.full(200, 2.0), np.full(200, 1.0)])
    weights = rolling_weights(losses, ORIGINS, 10, 50.0, np.ones(2))
    assert weights[:29].tolist() == [[0.5, 0.5]] * 29  # 20 outcomes, the first known at 10
    assert weights[-1, 1] > 0.9
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


def test_weights_differ_less_with_fewer_separate_outcomes() -> None:
    losses = np.column_stack([np.full(200, 1.2), np.full(200, 1.0)])
    near = rolling_weights(losses, ORIGINS, 1, 50.0, np.ones(2))[-1, 1]
    far = rolling_weights(losses, ORIGINS, 50, 50.0, np.ones(2))[-1, 1]
    assert near > 0.9
    assert far < 0.7


def test_the_last_value_starts_with_more_and_less_so_a_season_ahead() -> None:
    names = ("last-value", "lstm")
    assert prior(names, 10, 1440.0).tolist() == [3.0, 1.0]
    assert prior(names, 1440, 1440.0).tolist() == [2.0, 1.0]


def test_a_change_of_regime_is_followed_within_the_window() -> None:
    first, then = np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])
    losses = np.concatenate([np.repeat(first, 100, 0), np.repeat(then, 100, 0)])
    weights = rolling_weights(losses, ORIGINS, 1, 20.0, np.ones(2))
    assert weights[99, 0] > 0.9
    assert weights[-1, 1] > 0.9


def test_weight_of_a_model_without_a_value_goes_to_the_others() -> None:
    predicted = np.array([[[1.0], [np.nan]], [[np.nan], [np.nan]]])
    mixed_values = mixed(predicted, np.array([[0.3, 0.7], [0.3, 0.7]]))
    assert mixed_values[0, 0] == 1.0
    assert np.isnan(mixed_values[1, 0])


def test_large_error_of_one_model_moves_the_mixture_little() -> None:
    predicted = np.array([[[9.0], [10.0], [11.0], [900.0]]])
    assert mixed(predicted, np.full((1, 4), 0.25))[0, 0] == pytest.approx(10.5)
    leaning = mixed(predicted, np.array([[0.2, 0.5, 0.2, 0.1]]))[0, 0]
    assert 9.0 < leaning < 11.0
    assert mixed(predicted, np.array([[0.0, 0.0, 0.0, 1.0]]))[0, 0] == 900.0


def test_two_models_of_one_weight_meet_in_the_middle() -> None:
    assert mixed(np.array([[[4.0], [8.0]]]), np.array([[0.5, 0.5]]))[0, 0] == pytest.approx(6.0)


def test_a_day_ahead_the_weights_remember_a_fortnight() -> None:
    """Better for ten seasons, worse in the last three: the ten still count."""
    first, then = np.array([[1.0, 2.0]]), np.array([[2.0, 1.9]])
    losses = np.concatenate([np.repeat(first, 120, 0), np.repeat(then, 36, 0)])
    weights = rolling_weights(losses, np.arange(156), 12, 12.0, np.ones(2))
    assert weights[-1, 0] > 0.8


def test_the_mixtures_error_is_never_above_the_worst_members() -> None:
    rng = np.random.default_rng(3)
    actual = rng.gamma(20, 1.0, 400)
    raw = {
        "last-value": np.column_stack([actual + rng.normal(0, 2, 400)] * 2),
        "wrong": np.column_stack([actual * 10] * 2),
    }
    together, weights = mix(raw, actual, np.arange(400), 1, 50.0, (0.5, 0.9))
    error = np.abs(together[25:, 0] - actual[25:]).mean()
    assert error == pytest.approx(np.abs(raw["last-value"][25:, 0] - actual[25:]).mean(), rel=0.05)
    assert weights["last-value"] > 0.999


def test_model_without_any_value_has_no_weight_and_blocks_no_other() -> None:
    actual = np.full(60, 5.0)
    raw = {"last-value": np.full((60, 1), 4.0), "silent": np.full((60, 1), np.nan)}
    together, weights = mix(raw, actual, np.arange(60), 1, 20.0, (0.5,))
    assert set(weights) == {"last-value"}
    assert together.tolist() == [[4.0]] * 60


def test_models_that_were_all_right_share_the_weight() -> None:
    weights = rolling_weights(np.zeros((60, 2)), np.arange(60), 1, 20.0, np.ones(2))
    np.testing.assert_allclose(weights, 0.5)


def test_tiny_losses_are_compared_like_any_others() -> None:
    """The smaller of two losses is below the range of the division."""
    losses = np.column_stack([np.full(200, 1.0), np.full(200, 1e-310)])
    weights = rolling_weights(losses, ORIGINS, 10, 50.0, np.ones(2))
    assert weights[-1].tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_the_order_in_which_models_are_named_changes_nothing() -> None:
    """Two equal values share the middle of their total weight, in any order."""
    predicted = np.array([[[10.0], [20.0], [20.0], [30.0]]])
    weights = np.array([[0.3, 0.1, 0.4, 0.2]])
    mixed_values = mixed(predicted, weights)
    for order in ([0, 2, 1, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        np.testing.assert_allclose(mixed(predicted[:, order], weights[:, order]), mixed_values)
    as_one = mixed(predicted[:, [0, 1, 3]], np.array([[0.3, 0.5, 0.2]]))
    np.testing.assert_allclose(mixed_values, as_one)
