"""The predictive HPA's line, against its owner's table.

Figures of jthomperoo/predictive-horizontal-pod-autoscaler at c91d0609 (Apache-2.0),
algorithms/linear_regression/test_linear_regression.py: 1, 2, 3 and 4 replicas, ten seconds apart,
the last nine seconds ago.
"""

import numpy as np
import pytest

from r1_board import courses, phpa

TIMES = [33.0, 43.0, 53.0, 63.0]
NOW = 72.0


@pytest.mark.parametrize(("ahead", "replicas"), [(0, 5), (10, 6), (15, 7)])
def test_the_line(ahead: float, replicas: int) -> None:
    assert phpa.foreseen([1, 2, 3, 4], phpa.line_weights(TIMES, NOW + ahead)) == replicas


def test_one_figure_is_its_own_line() -> None:
    assert phpa.foreseen([3], phpa.line_weights([0.0], 10.0)) == 3


def test_what_stands_still_is_foreseen_to_stand_still() -> None:
    worth = np.full(60, 7.3)
    assert phpa.linear(worth, 60).tolist() == courses.plain_autoscaler(worth, 60).tolist()


def test_on_a_rise_it_is_ahead_of_the_plain_one() -> None:
    worth = np.linspace(4, 24, 200)
    ahead = phpa.linear(worth, 60) - courses.plain_autoscaler(worth, 60)
    assert ahead.min() >= -1
    assert ahead.mean() > 0.1
