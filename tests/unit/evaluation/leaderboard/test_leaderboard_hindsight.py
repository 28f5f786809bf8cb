"""How far it can go: headroom chosen in hindsight, on small loads of our own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from r1_evaluation.leaderboard.bound import main
from r1_evaluation.leaderboard.hindsight import hindsight_bounds
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import scenario_of

MINUTES = 20
DAY = 1440 // MINUTES


def load(jumpy_days: tuple[int, ...], days: int = 4) -> RateTrace:
    """By the minute: flat, but on the days named two in five stretches are half as high again."""
    drawn = np.random.default_rng(7)
    rates = np.full(days * DAY, 600.0)
    for day in jumpy_days:
        rates[day * DAY : (day + 1) * DAY] *= np.where(drawn.random(DAY) < 0.4, 1.5, 1.0)
    return RateTrace("made", 60.0, tuple(np.repeat(rates, MINUTES).tolist()))


def test_daily_headroom_is_cheaper_when_days_differ() -> None:
    # Half of four days is tested: the third flat, the fourth with jumps.
    lower_bounds = hindsight_bounds(scenario_of(load((1, 3)), 300.0), (math.inf, 24.0))
    whole, daily = lower_bounds.bounds
    assert whole.cost is not None
    assert daily.cost is not None
    assert daily.cost < 0.9 * whole.cost
    assert lower_bounds.hpa is not None
    assert whole.cost <= lower_bounds.hpa


def test_a_bound_never_costs_less_than_the_clairvoyant_minimum() -> None:
    lower_bounds = hindsight_bounds(scenario_of(load((1, 2, 3)), 300.0), (math.inf, 12.0))
    for bound in lower_bounds.bounds:
        assert bound.cost is not None
        assert bound.cost >= 1.0
        assert bound.overload is not None
        assert bound.overload <= 0.005


def test_a_load_without_jumps_needs_no_headroom() -> None:
    [whole] = hindsight_bounds(scenario_of(load(()), 300.0), (math.inf,)).bounds
    assert whole.cost == pytest.approx(1.0)


def test_the_bound_command_prints_a_table_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = load((1,), days=2).per_minute
    rows = [f"{60 * n},{rate}" for n, rate in enumerate(rates)]
    path = tmp_path / "made.csv"
    path.write_text("timestamp_s,requests_per_minute\n" + "\n".join(rows) + "\n")
    assert main(["--trace", str(path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [row["hours"] for row in printed["bounds"]] == [None, 24.0, 12.0, 6.0]
    assert main(["--trace", str(path)]) == 0
    assert "the whole window" in capsys.readouterr().out


def test_the_bound_command_refuses_invalid_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--trace", str(tmp_path / "none.csv")]) == 3
    assert main(["--trace", "x.csv", "--start", "soon"]) == 2
    assert "seconds from 1 to 3600" in capsys.readouterr().err
