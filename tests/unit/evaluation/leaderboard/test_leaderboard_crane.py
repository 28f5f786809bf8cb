"""Crane's prediction against its owner's tests.

Figures of gocrane/crane at 2b0ddae8 (Apache-2.0): pkg/prediction/accuracy/accuracy_test.go and
pkg/prediction/dsp/signal_test.go. The sixteen recorded signals of the latter are its owner's: where
`R1_CRANE` names the folder test_data of a checkout, the periods that are expected there are demanded
here.
"""

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest

from r1_evaluation.baselines.contrib import crane
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import DAY_SECONDS, STEP_SECONDS, Floats, scenario_of

DAY, WEEK = DAY_SECONDS, 7 * DAY_SECONDS
RECORDED: dict[int, float] = {
    0: DAY, 1: DAY, 2: WEEK, 8: WEEK, 9: DAY, 10: WEEK, 11: DAY, 12: WEEK, 13: WEEK, 14: WEEK,
    15: WEEK,
}  # fmt: skip
"""Which period its owner expects of test_data/inputN.csv; of the others it expects nothing."""


def wave(periods: float = 2.0) -> Floats:
    """Its owner's wave: two turns of a sine above three, a hundred samples."""
    values: Floats = np.sin(2 * np.pi * periods * np.arange(100) / 100) + 3
    return values


def test_cranes_error_weighs_underestimates_more() -> None:
    assert crane.error(wave(), wave()) == 0
    assert crane.error(wave(), wave() * 1.1) == pytest.approx(0.1, rel=1e-10)
    low = crane.error(wave(), wave() * 0.9)
    assert low == pytest.approx(-math.log(0.9) / math.log(1.25), rel=1e-10)
    assert low == pytest.approx(0.47, abs=0.005)
    assert crane.error(wave(), wave() * 0.5) == pytest.approx(3.1, abs=0.01)


def test_cranes_error_is_absolute_near_zero() -> None:
    assert crane.error(np.array([0.0, 2.0]), np.array([1.0, 1.0])) == 1.0


@pytest.mark.skipif("R1_CRANE" not in os.environ, reason="R1_CRANE names no test_data of Crane")
@pytest.mark.parametrize("number", list(RECORDED))
def test_the_period_of_a_recorded_signal(number: int) -> None:
    with (Path(os.environ["R1_CRANE"]) / f"input{number}.csv").open() as file:
        values = np.array([float(row["value"]) for row in csv.DictReader(file)])
    seconds = 15.0 if number == 15 else 60.0
    # Its owner cuts all of them to weeks as if they were of one minute.
    week = 7 * 1440
    whole_weeks = values[len(values) - len(values) // week * week :]
    assert crane.find_period(whole_weeks, seconds) == RECORDED[number]


def days(count: int, seed: int = 1) -> Floats:
    """Days by the minute with a peak in the evening and a little noise."""
    drawn = np.random.default_rng(seed)
    at = np.arange(count * 1440) / 1440
    values: Floats = 50 + 30 * np.sin(2 * np.pi * at) + 8 * np.sin(4 * np.pi * at)
    return values + drawn.normal(0, 1.5, len(at))


def test_a_daily_period_is_found_and_extrapolated() -> None:
    past = days(5)
    assert crane.find_period(past, 60.0) == DAY
    ahead = crane.extrapolated(past, 60.0)
    assert ahead is not None
    assert len(ahead) == len(past)
    truth = days(6)[-1440:]
    assert np.abs(ahead[:1440] - truth).mean() < 6
    # Too low is dear, so what was best has a margin.
    assert (ahead[:1440] - truth).mean() > 0


def test_noise_has_no_period_and_no_prediction() -> None:
    noise = 50 + np.random.default_rng(3).normal(0, 5, 4 * 1440)
    assert crane.find_period(noise, 60.0) is None
    assert crane.extrapolated(noise, 60.0) is None
    assert crane.find_period(np.full(2880, 4.0), 60.0) is None
    assert crane.extrapolated(days(1), 60.0) is None, "one day cannot be seen to come again"


def test_cranes_prediction_uses_past_demand_only() -> None:
    values = days(6)
    scenario = scenario_of(RateTrace("days", 60.0, tuple((60 * values).tolist())), 60)
    foretold = crane.predicted_peak(scenario)
    assert (foretold[: 12 * 240] > 0).all()
    changed = values.copy()
    changed[-1440:] *= 3
    other = scenario_of(RateTrace("days", 60.0, tuple((60 * changed).tolist())), 60)
    same = len(foretold) - 1440 * 60 // STEP_SECONDS
    assert foretold[:same].tolist() == crane.predicted_peak(other)[:same].tolist()
    highest = values[-1440:].max()
    assert foretold[-5760:].max() == pytest.approx(highest, rel=0.25)
