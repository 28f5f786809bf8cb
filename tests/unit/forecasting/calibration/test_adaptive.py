"""Adaptive corrections: separate outcomes, and the widening for few of them."""

from __future__ import annotations

import numpy as np
import pytest

from r1_forecasting.arrays import FloatArray
from r1_forecasting.calibration.adaptive import REBOUND, adaptive_offsets, rebound, widening

LEVELS = (0.5, 0.9, 0.95)
DAY = 48


def days_apart(count: int, seed: int, within: float = 0.3) -> FloatArray:
    """Errors (count * DAY, levels) that rise and fall together within a day."""
    rng = np.random.default_rng(seed)
    shared = np.repeat(rng.normal(0, 1, count), DAY)
    own = rng.normal(0, within, count * DAY)
    return np.repeat((shared + own)[:, None], len(LEVELS), axis=1)


def share_below(errors: FloatArray, offsets: FloatArray) -> FloatArray:
    known = ~np.isnan(offsets).any(axis=1)
    shares: FloatArray = (errors[known] <= offsets[known]).mean(axis=0)
    return shares


@pytest.mark.parametrize("rebounds", [False, True])
def test_nothing_is_learned_before_its_time_has_passed(rebounds: bool) -> None:
    errors = days_apart(9, 1)
    changed = errors.copy()
    changed[5 * DAY :] += 1000.0
    origins = np.arange(len(errors))
    one, two = (
        adaptive_offsets(each, origins, DAY, window=400, levels=LEVELS, rebounds=rebounds)
        for each in (errors, changed)
    )
    np.testing.assert_array_equal(one[: 6 * DAY], two[: 6 * DAY])
    assert not np.array_equal(one[6 * DAY :], two[6 * DAY :], equal_nan=True)


def test_a_day_ahead_the_shares_hold_though_a_day_is_one_sample() -> None:
    """Twelve days each of 40 services, the last seven scored: none has more than eleven days."""
    shares = []
    for seed in range(40):
        errors = days_apart(12, seed)
        offsets = adaptive_offsets(
            errors, np.arange(len(errors)), DAY, window=28 * DAY, levels=LEVELS
        )
        shares.append(share_below(errors[5 * DAY :], offsets[5 * DAY :]))
    mean = np.mean(shares, axis=0)
    assert mean[1] == pytest.approx(0.9, abs=0.025)
    assert mean[2] == pytest.approx(0.95, abs=0.02)


def test_one_bad_day_moves_a_level_no_more_than_one_outcome_may() -> None:
    """A day of misses must not send the level to its limit: it is one outcome, not 48."""
    calm = np.repeat(np.linspace(0, 1, 10 * DAY)[:, None] % 0.1, 3, axis=1)
    bad = calm.copy()
    bad[8 * DAY : 9 * DAY] += 1.0
    origins = np.arange(len(calm))
    after = adaptive_offsets(bad, origins, DAY, window=7 * DAY, levels=LEVELS)
    assert np.nanmax(after[: 9 * DAY, 1]) < 0.2
    assert after[-1, 1] > 0.5


def test_few_separate_outcomes_widen_and_many_do_not() -> None:
    few, more, many = (widening(m, LEVELS) for m in (3.0, 8.0, 300.0))
    assert few[0] == more[0] == many[0] == 1.0
    assert few[1] > more[1] > many[1] > 1.0
    assert few[2] > few[1]
    np.testing.assert_allclose(many, 1.0, atol=0.01)


@pytest.mark.parametrize(
    ("free", "t90", "t95"), [(2, 1.886, 2.920), (4, 1.533, 2.132), (10, 1.372, 1.812)]
)
def test_widening_follows_students_t(free: int, t90: float, t95: float) -> None:
    m = free + 1
    factors = widening(m, LEVELS)
    assert factors[1] == pytest.approx(t90 / 1.2816 * (1 + 1 / m) ** 0.5, rel=0.02)
    assert factors[2] == pytest.approx(t95 / 1.6449 * (1 + 1 / m) ** 0.5, rel=0.02)


def test_lower_quantiles_widen_downwards() -> None:
    errors = np.repeat(days_apart(12, 3)[:, :1], 2, axis=1)
    last_offsets = adaptive_offsets(
        errors, np.arange(len(errors)), DAY, window=28 * DAY, levels=(0.1, 0.9)
    )[-1]
    assert last_offsets[0] < np.quantile(errors, 0.25)
    assert last_offsets[1] > np.quantile(errors, 0.75)


def test_half_of_the_distance_below_the_band_is_added_above() -> None:
    errors = np.array([[-5.0], [-1.0], [0.5], [9.0]]).repeat(3, axis=1)
    offsets = np.array([0.0, 2.0, 3.0])[None].repeat(4, axis=0)
    offsets[3] = np.nan  # nothing was issued there
    added = rebound(errors, offsets, LEVELS)
    np.testing.assert_allclose(added, [0.0, REBOUND * 3 / 3, REBOUND * 2 / 3])
    np.testing.assert_allclose(rebound(-errors, -offsets, (0.5, 0.1, 0.05)), -added)


def test_outcome_inside_the_band_gives_no_rebound() -> None:
    inside = days_apart(1, 0)
    assert rebound(inside, np.full(inside.shape, 9.0), LEVELS).tolist() == [0.0, 0.0, 0.0]
    assert rebound(inside[:0], inside[:0], LEVELS).tolist() == [0.0, 0.0, 0.0]


def test_rebound_improves_coverage_after_an_anomalous_day() -> None:
    """Streets empty for a day: whoever learned of it errs as far upwards on the next.

    Ten services with the ninth day like that. What was announced once half of it had been seen
    is scored, and the last day, which has no part in it any more.
    """
    late, last = slice(10 * DAY + DAY // 2, 11 * DAY), slice(13 * DAY, 14 * DAY)
    held, wider = [], []
    for seed in range(10):
        errors = days_apart(14, seed)
        errors[9 * DAY : 10 * DAY] -= 8.0
        errors[10 * DAY : 11 * DAY] += 2.0
        without, with_it = (
            adaptive_offsets(
                errors,
                np.arange(len(errors)),
                DAY,
                window=28 * DAY,
                levels=LEVELS,
                rebounds=rebounds,
            )
            for rebounds in (False, True)
        )
        held.append([share_below(errors[late], each[late])[1] for each in (without, with_it)])
        wider.append((with_it - without)[last, 1].mean())
    before, now = np.mean(held, axis=0)
    assert now > 0.85
    assert before < 0.6
    assert np.mean(wider) < 0.1  # of a spread of one within the day's own
