"""The predictive HPA's Holt-Winters model, against its owner's tables and what statsmodels answered.

Figures of jthomperoo/predictive-horizontal-pod-autoscaler at c91d0609 (Apache-2.0): the additive row
of algorithms/holt_winters/test_holt_winters.py, and the order and length of what
internal/prediction/holtwinters/holtwinters_test.go expects of a pruned history. `SAID`: what
statsmodels 0.15.0 answered, called as algorithms/holt_winters/holt_winters.py calls it, by
`evaluation/r1_evaluation/reference_programs/programs/holt_winters.py`: series, season, each gain, and the value that comes
next in order of time and in the order of its code. The script prints it rounded up.
"""

import math

import numpy as np
import pytest

from r1_evaluation.baselines.contrib import phpa, phpa_holt_winters

SAID: list[tuple[list[int], int, float, float, float]] = [
    ([13, 18, 18, 13, 9, 8, 13, 17, 17, 13, 8, 7, 12, 16, 17, 13], 6, 0.9, 9.05275, 15.31052),
    ([13, 16, 17, 18, 17, 15, 13, 9, 8, 6, 7, 10, 12, 16, 18, 19, 19, 18, 16, 13, 12, 12, 12, 13,
     15, 18, 21, 22, 22, 20, 18, 15], 12, 0.1, 13.593264, 7.708373),
    ([12, 16, 19, 21, 21, 18, 16, 13, 12, 10, 10, 11, 15, 19, 20, 21, 19, 16, 14, 12, 9, 7, 8, 11,
     15, 17, 19], 12, 0.1, 20.105889, 10.615732),
    ([11, 16, 16, 12, 7, 7, 13, 18, 19, 15, 10, 11, 15, 19, 18, 12], 6, 0.9, 8.306575, 17.904358),
    ([12, 16, 19, 21, 19, 17, 13, 9, 8, 6, 7, 8, 10, 14, 15, 15, 13, 12, 8, 5, 2, 1, 2, 3, 6], 12,
     0.1, 9.763942, 9.871105),
    ([12, 17, 20, 17, 14, 9, 6, 8, 13, 18, 21, 18, 14, 11, 9, 10, 15, 18], 8, 0.1, 22.390351,
     6.633933),
    ([12, 14, 17, 19, 18, 16, 12, 10, 9, 7, 7, 8, 11, 13, 15, 17, 16, 15, 12, 9, 8, 7, 9, 10], 12,
     0.9, 13.549534, 9.922756),
    ([13, 15, 16, 16, 15, 13, 11, 7, 4, 4, 4, 7, 9, 12, 13, 14, 14, 13, 11, 9, 7, 7, 8, 9, 12, 15,
     16, 16, 15, 13, 10, 8, 7], 12, 0.1, 6.228643, 6.32728),
    ([13, 16, 17, 17, 16, 14, 10, 7, 6, 4, 4, 7, 9, 13, 15, 17, 15, 13, 11, 8, 6, 4, 4, 5, 8, 11],
     12, 0.1, 14.411473, 5.586861),
    ([12, 17, 16, 10, 4, 4, 8, 14, 14, 8, 3, 2, 6, 11, 11, 5], 6, 0.9, 3.503066, -2.004105),
    ([11, 14, 15, 14, 10, 5, 4, 6, 9, 12, 13, 12, 8, 5, 4, 6, 11, 15], 8, 0.1, 13.420807, 6.467997),
    ([11, 15, 18, 20, 20, 18, 14, 12, 10, 10, 10, 12, 16, 19, 22, 23, 23, 22, 20, 17, 14, 12, 14,
     16, 18, 20, 21, 21, 20, 17, 14, 11, 8, 7], 12, 0.1, 10.931493, 8.885522),
    ([12, 15, 16, 15, 11, 6, 4, 7, 12, 16, 17, 14, 11, 7, 5, 8, 12, 16, 19, 18, 14, 10], 8, 0.9,
     15.413696, 2.057651),
    ([13, 17, 16, 11, 5, 4, 9, 15, 14, 9, 3, 3, 9, 15, 16, 10], 6, 0.1, 3.112819, 7.064118),
    ([13, 18, 21, 18, 13, 9, 7, 10, 14, 18, 21, 18, 14, 9, 6, 9, 14, 17, 20, 19, 16, 13], 8, 0.1,
     7.160128, 7.069505),
    ([13, 16, 18, 17, 13, 8, 5, 6, 10, 15, 18, 15, 12, 8, 7, 9, 13, 17], 8, 0.9, 7.69944, 12.47149),
    ([11, 14, 17, 19, 18, 17, 13, 11, 9, 7, 8, 10, 13, 15, 18, 20, 18, 17, 14, 10, 8, 6, 7, 8, 11,
     13, 14, 16, 15, 12], 12, 0.1, 10.98344, 8.763933),
    ([11, 15, 16, 18, 16, 15, 12, 8, 7, 6, 6, 9, 13, 15, 17, 19, 17, 16, 13, 9, 6, 6, 8, 11, 14,
     16, 17, 17], 12, 0.1, 17.466913, 6.289009),
    ([13, 17, 18, 14, 9, 9, 14, 19, 20, 15, 11, 12, 16, 22, 21, 15], 6, 0.9, 8.144656, 28.392086),
    ([12, 17, 18, 17, 12, 7, 4, 7, 11, 16, 19, 18, 14, 11, 8, 10, 13, 17, 19, 18, 15, 10, 9], 8,
     0.1, 10.849023, 4.555062),
    ([12, 18, 18, 14, 8, 8, 14, 20, 21, 16, 10, 9, 13, 18, 19, 13, 7], 6, 0.1, 8.519629, 7.704398),
    ([13, 17, 20, 18, 14, 11, 8, 9, 14, 17, 20, 19, 16, 11, 9, 10, 15, 18, 20], 8, 0.9, 13.119301,
     28.583998),
    ([12, 16, 15, 11, 5, 4, 8, 14, 15, 10, 4, 4, 10, 16, 17, 11], 6, 0.1, 5.046348, 6.500454),
    ([11, 15, 14, 10, 6, 6, 11, 15, 15, 9, 3, 3, 8, 13, 13, 7, 3], 6, 0.1, 2.030089, 6.300695),
]  # fmt: skip


def test_the_row_of_phpas_own_test_table() -> None:
    series = [1, 3, 1, 1, 3, 1, 1, 3, 1, 1, 3, 1, 1]
    assert math.ceil(phpa_holt_winters.next_value(series, 3, (0.9, 0.9, 0.3)) - 1e-9) == 3


@pytest.mark.parametrize(("series", "season", "gain", "output", "upstream_output"), SAID)
def test_holt_winters_equals_recorded_statsmodels_output(
    series: list[int], season: int, gain: float, output: float, upstream_output: float
) -> None:
    gains = (gain, gain, gain)
    assert phpa_holt_winters.next_value(series, season, gains) == pytest.approx(output, abs=1e-6)
    handed = phpa_holt_winters.upstream_order(series)
    assert phpa_holt_winters.next_value(handed, season, gains) == pytest.approx(
        upstream_output, abs=1e-6
    )


def test_the_oldest_season_is_pruned_beyond_the_stored_ones() -> None:
    seven, eight = [float(n) for n in range(1, 8)], [float(n) for n in range(1, 9)]
    assert not phpa_holt_winters.pruned(seven, 2, stored=3)
    assert len(seven) == 7
    assert phpa_holt_winters.pruned(eight, 2, stored=3)
    assert eight == [3, 4, 5, 6, 7, 8]


def test_upstream_order_is_newest_first_and_the_next_value_last() -> None:
    """Its table has 8, 7, 6, 5, 4, 3 for what is left of eight; then comes a ninth."""
    assert phpa_holt_winters.upstream_order([3, 4, 5, 6, 7, 8, 9]) == [8, 7, 6, 5, 4, 3, 9]


@pytest.mark.parametrize("season", [2, 6, 10, 11, 24])
@pytest.mark.parametrize("gains", [(0.1, 0.1, 0.1), (0.9, 0.9, 0.9), (0.5, 0.05, 0.3)])
def test_incremental_and_full_computation_agree(
    season: int, gains: tuple[float, float, float]
) -> None:
    """Figure after figure through two prunings; two figures a season are never enough."""
    drawn = np.random.default_rng(season)
    in_order, as_written = (
        model(season, gains)
        for model in (phpa_holt_winters.time_order_model, phpa_holt_winters.upstream_order_model)
    )
    history: list[float] = []
    spoke = 0
    for _ in range(5 * season + 12):
        figure = int(drawn.integers(1, 20))
        history.append(float(figure))
        outputs = in_order(figure), as_written(figure)
        if len(history) < phpa_holt_winters.fewest(season):
            assert outputs == (0, 0)
        else:
            orders = (history, phpa_holt_winters.upstream_order(history))
            values = (phpa_holt_winters.next_value(order, season, gains) for order in orders)
            assert outputs == tuple(math.ceil(value - 1e-9) for value in values)
            spoke += 1
        phpa_holt_winters.pruned(history, season)
    assert (spoke > 0) == (season > 2)


def test_phpa_rises_before_a_daily_rise_after_two_days() -> None:
    """A day of 40 looks that steps from 4 to 12; the third step is met by what it foretold."""
    day = np.where(np.arange(40) < 20, 4.0, 12.0)
    demand_in_replicas = np.concatenate([day, day, day])
    ahead = phpa.simulate(demand_in_replicas, 60, 1, phpa_holt_winters.time_order_model(40))
    plain = phpa.simulate(demand_in_replicas, 60, 1, lambda calculated: 0)
    assert plain[99] == 4
    assert ahead[99] == 12, "one look before demand steps"
    assert ahead[59] == plain[59] == 4
