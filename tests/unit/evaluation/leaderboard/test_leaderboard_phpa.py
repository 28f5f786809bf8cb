"""The predictive HPA's line, against its owner's table.

Figures of jthomperoo/predictive-horizontal-pod-autoscaler at c91d0609 (Apache-2.0),
algorithms/linear_regression/test_linear_regression.py: 1, 2, 3 and 4 replicas, ten seconds apart,
the last nine seconds ago. `SAID`: what its script, algorithms/linear_regression/linear_regression.py,
answered to seven figures 15 s apart and 10 s ahead, run with statsmodels 0.15.0.
"""

import numpy as np
import pytest

from r1_evaluation.baselines.contrib import phpa
from r1_evaluation.policies import vectorized

TIMES = [33.0, 43.0, 53.0, 63.0]
NOW = 72.0
SAID: list[tuple[list[float], int]] = [
    ([13, 12, 12, 11, 13, 12, 12], 12),
    ([28, 28, 28, 27, 32, 32, 32], 33),
    ([5, 3, 3, 4, 6, 5, 10], 9),
    ([23, 21, 21, 21, 21, 26, 28], 27),
    ([29, 30, 30, 30, 28, 28, 28], 28),
    ([16, 18, 18, 18, 16, 15, 15], 16),
    ([17, 17, 22, 27, 29, 34, 33], 38),
    ([12, 17, 15, 15, 15, 13, 13], 14),
    ([23, 28, 30, 30, 30, 35, 34], 37),
    ([19, 21, 21, 23, 23, 22, 24], 25),
    ([20, 19, 24, 23, 22, 24, 24], 25),
    ([21, 21, 26, 25, 27, 26, 31], 31),
    ([12, 14, 16, 15, 17, 15, 17], 18),
    ([29, 29, 34, 36, 38, 38, 38], 41),
    ([9, 11, 16, 15, 15, 13, 13], 16),
    ([22, 20, 19, 18, 18, 19, 19], 18),
    ([21, 26, 26, 27, 27, 27, 32], 32),
    ([10, 10, 10, 10, 10, 12, 12], 12),
    ([18, 19, 19, 17, 22, 24, 22], 24),
    ([24, 24, 25, 26, 28, 28, 30], 31),
    ([15, 14, 12, 12, 14, 14, 13], 13),
    ([6, 5, 7, 6, 8, 8, 6], 8),
    ([16, 18, 23, 23, 23, 21, 26], 27),
    ([9, 9, 9, 11, 11, 9, 9], 10),
    ([13, 13, 15, 13, 11, 9, 10], 10),
    ([18, 17, 22, 20, 18, 18, 17], 18),
]  # fmt: skip


@pytest.mark.parametrize(("ahead", "replicas"), [(0, 5), (10, 6), (15, 7)])
def test_phpas_linear_model(ahead: float, replicas: int) -> None:
    assert phpa.line_value([1, 2, 3, 4], phpa.line_weights(TIMES, NOW + ahead)) == replicas


@pytest.mark.parametrize(("replicas", "output"), SAID)
def test_phpas_linear_model_equals_its_script(replicas: list[float], output: int) -> None:
    weights = phpa.line_weights([15.0 * k for k in range(7)], 100.0)
    assert phpa.line_value(replicas, weights) == output


def test_one_value_is_its_own_line() -> None:
    assert phpa.line_value([3], phpa.line_weights([0.0], 10.0)) == 3


def test_constant_values_are_predicted_as_constant() -> None:
    demand_in_replicas = np.full(60, 7.3)
    assert (
        phpa.linear(demand_in_replicas, 60).tolist()
        == vectorized.hpa_counts(demand_in_replicas, 60).tolist()
    )


def test_phpa_rises_before_an_hpa() -> None:
    demand_in_replicas = np.linspace(4, 24, 200)
    ahead = phpa.linear(demand_in_replicas, 60) - vectorized.hpa_counts(demand_in_replicas, 60)
    assert ahead.min() >= -1
    assert ahead.mean() > 0.1
