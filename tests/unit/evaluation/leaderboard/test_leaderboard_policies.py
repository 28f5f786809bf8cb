"""The board's own arithmetic, with every policy on it."""

import json
from pathlib import Path

import numpy as np
import pytest

from r1_evaluation.baselines import dynamo
from r1_evaluation.leaderboard.chart import draw, looks
from r1_evaluation.leaderboard.report import markdown, ranked, table
from r1_evaluation.leaderboard.scoring import (
    MAX_OVERLOAD,
    TARGETS,
    CurvePoint,
    cheapest_within_slo,
    score_policies,
)
from r1_evaluation.policies.forecast_replay import LEVELS, ReplayedForecast, lead_minutes
from r1_evaluation.policies.inputs import PolicyInputs
from r1_evaluation.policies.registry import POLICIES
from r1_evaluation.simulator.start_times import start_steps
from r1_evaluation.traces.load import RateTrace
from r1_evaluation.traces.scenario import scenario_of


def day(minutes: int = 240) -> PolicyInputs:
    """A calm wave with a little noise, without a forecast."""
    drawn = np.random.default_rng(3)
    wave = 600 + 400 * np.sin(np.arange(minutes) / 30) + drawn.normal(0, 30, minutes)
    scenario = scenario_of(RateTrace("wave", 60.0, tuple(np.maximum(wave, 1).tolist())), 60)
    # No owner's package is asked, let alone fetched: its predictors say the last value.
    inputs = PolicyInputs(
        scenario, predict=lambda name, values, first: dynamo.constant(values, first)
    )
    steps = len(inputs.reading)
    silent = ReplayedForecast(np.full((steps, len(LEVELS)), np.nan), np.zeros(steps, dtype=bool))
    object.__setattr__(inputs, "replayed_forecast", silent)
    return inputs


class TestBoard:
    def test_the_json_has_the_documented_fields_only(self) -> None:
        board = score_policies(day(), 60.0, tuple(POLICIES)).to_json()
        assert set(board) == {"trace", "start_s", "max_overload", "policies"}
        rows = board["policies"]
        assert isinstance(rows, list)
        assert [row["name"] for row in rows] == list(POLICIES)
        for row in rows:
            assert set(row) == {
                "name",
                "cost_at_slo",
                "target_at_slo",
                "overload_at_u07",
                "cost_at_u07",
                "actions_per_hour",
                "curve",
                "tuned_on_first_half",
            }
            assert [point["target"] for point in row["curve"]] == list(TARGETS)
            assert set(row["tuned_on_first_half"]) == {"target", "cost", "overload"}
        json.dumps(board, allow_nan=False)

    def test_no_policy_within_the_slo_beats_the_clairvoyant_by_more_than_the_slo(
        self,
    ) -> None:
        board = score_policies(day(), 60.0, tuple(POLICIES))
        for row in board.policies:
            assert row.cost_at_slo is None or row.cost_at_slo > 1 - 10 * MAX_OVERLOAD

    def test_a_perfect_forecast_is_cheaper_than_none(self) -> None:
        oracle, none = score_policies(day(), 60.0, ("oracle", "ours-no-forecast")).policies
        assert oracle.cost_at_slo is not None
        assert none.cost_at_slo is not None
        assert oracle.cost_at_slo < none.cost_at_slo

    def test_more_headroom_costs_more_and_overloads_less(self) -> None:
        for row in score_policies(day(), 60.0, ("ours", "hpa", "static")).policies:
            costs = [point.cost for point in row.curve]
            overloads = [point.overload for point in row.curve]
            assert costs[0] > costs[-1]
            assert overloads[0] < overloads[-1]

    def test_drawn_start_times_change_the_figures_slightly(self) -> None:
        fixed = score_policies(day(), 60.0, ("hpa",)).policies[0]
        drawn = score_policies(day(), 60.0, ("hpa",), seeds=2).policies[0]
        assert drawn.curve != fixed.curve
        assert drawn.curve[6].cost == fixed.curve[6].cost  # what is paid begins with the start
        assert drawn == score_policies(day(), 60.0, ("hpa",), seeds=2).policies[0]

    def test_the_cheapest_point_meets_the_slo(self) -> None:
        curve = [
            CurvePoint(0.4, 2.0, 0.0),
            CurvePoint(0.7, 1.2, 0.005),
            CurvePoint(0.9, 1.0, 0.0051),
        ]
        assert cheapest_within_slo(curve) == curve[1]
        assert cheapest_within_slo(curve[2:]) is None

    def test_the_table_ranks_by_cost_at_the_slo(self) -> None:
        board = score_policies(day(), 60.0, ("static", "ours", "oracle"))
        names = [row.name for row in ranked(board)]
        assert names[0] == "oracle"
        lines = table(board).splitlines()
        assert [line.split()[0] for line in lines[-3:]] == names
        assert markdown(board, "x.png").count("\n| ") == 4


def test_the_chart_has_a_line_for_every_policy(tmp_path: Path) -> None:
    path = tmp_path / "board.png"
    draw(score_policies(day(), 60.0, tuple(POLICIES)), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_requested_start_time_is_the_90_percent_quantile() -> None:
    steps = np.array(start_steps(300.0)) * 15
    assert 280 <= np.quantile(steps, 0.9) <= 315
    assert np.median(steps) < 200
    assert min(start_steps(1.0)) == 1


@pytest.mark.parametrize(("start", "minutes"), [(15, 2), (45, 2), (60, 3), (120, 4), (300, 7)])
def test_the_lead_covers_start_decision_and_the_open_minute(start: float, minutes: int) -> None:
    assert lead_minutes(start) == minutes


def test_a_given_quantile_replaces_the_newsvendor_quantile() -> None:
    usual = day()
    own = PolicyInputs(usual.scenario, quantile=0.8)
    assert own.policy(0.7).peak_quantile(300.0) == 0.8
    assert usual.policy(0.7).peak_quantile(300.0) > 0.9


def test_every_policy_has_its_own_line_style() -> None:
    assert len(set(looks(POLICIES).values())) == len(POLICIES)
