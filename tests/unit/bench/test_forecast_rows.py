"""`make bench-forecast`: which bar each figure is held to, and what one interval ahead may know."""

from __future__ import annotations

import numpy as np
import pytest

from r1_bench import forecast
from r1_evaluation.forecast_bench.one_interval import (
    RUN_IN,
    SCORED,
    intervals_of,
    ours,
    share_missed,
)
from r1_evaluation.forecast_bench.score import Scored
from r1_evaluation.forecast_bench.series import TooShort
from r1_evaluation.reference_programs.environment import NotInstalled
from r1_evaluation.reference_programs.predictions import PREDICTORS
from r1_forecasting.series.series import Series

MINUTES_A_DAY = 1440


def minutes(days: int = 8, seed: int = 5) -> Series:
    """A wave a day with noise, requests per minute."""
    at = np.arange(days * MINUTES_A_DAY)
    noise = np.random.default_rng(seed).gamma(50, 0.02, len(at))
    return Series(0.0, 60.0, (100 + 60 * np.sin(2 * np.pi * at / MINUTES_A_DAY)) * noise)


def scored(peer: str, wape: float, theirs: float, coverage: tuple[float, float]) -> Scored:
    figures: dict[str, dict[str, float | None]] = {
        "ours": {"wape": wape, "coverage90": coverage[0], "coverage95": coverage[1]},
        peer: {"wape": theirs, "coverage90": 0.9, "coverage95": 0.95},
    }
    nothing = np.empty(0)
    return Scored(figures, nothing, nothing, {})


class TestBars:
    def test_short_horizons_are_compared_with_the_last_value_and_long_ones_with_the_naive(
        self,
    ) -> None:
        rows = forecast.horizon_rows(
            "x",
            {
                "10m": scored("last-value", 0.1031, 0.1, (0.9, 0.95)),
                "24h": scored("seasonal-naive", 0.109, 0.1, (0.9, 0.95)),
            },
        )
        errors = {row.name: row.ok for row in rows if row.name.startswith("error")}
        assert errors == {"error 10m, x": False, "error 24h, x": True}

    @pytest.mark.parametrize(
        ("share90", "share95", "holds"),
        [(0.86, 0.92, True), (0.94, 0.98, True), (0.85, 0.95, False), (0.9, 0.99, False)],
    )
    def test_coverage_has_a_lower_and_an_upper_bar(
        self, share90: float, share95: float, holds: bool
    ) -> None:
        rows = forecast.horizon_rows(
            "x", {"10m": scored("last-value", 0.1, 0.1, (share90, share95))}
        )
        covered = [row for row in rows if row.name.startswith("coverage")]
        assert len(covered) == 2
        assert all(row.ok for row in covered) is holds

    def test_means_are_over_all_traces(self) -> None:
        rows = [
            *forecast.horizon_rows("a", {"15m": scored("last-value", 0.5, 1.0, (0.9, 0.95))}),
            *forecast.horizon_rows("b", {"15m": scored("last-value", 1.0, 1.0, (0.9, 0.95))}),
        ]
        (mean,) = forecast.mean_rows(rows)
        assert mean.name == "geo-mean error 15m over 2 traces"
        assert mean.ours == pytest.approx(0.5**0.5)
        assert mean.ok


class TestOneInterval:
    def test_a_gap_is_forward_filled_for_predictors_and_not_scored(self) -> None:
        whole = minutes()
        values = whole.values.copy()
        gap = len(values) - 5 * MINUTES_A_DAY + 3 * (RUN_IN + 10)
        values[gap : gap + 3] = np.nan
        intervals = intervals_of(Series(0.0, 60.0, values), 180)
        assert len(intervals.filled) == RUN_IN + SCORED
        assert intervals.filled[RUN_IN + 10] == intervals.filled[RUN_IN + 9]
        assert not intervals.counts[10]  # it did not come
        assert not intervals.counts[11]  # the one before it did not
        assert intervals.counts.sum() == SCORED - 2
        assert share_missed(intervals.actual, intervals) == 0

    def test_predictors_receive_requests_not_rates(self) -> None:
        whole = minutes()
        intervals = intervals_of(whole, 180)
        first = len(whole) - 5 * MINUTES_A_DAY
        assert intervals.filled[0] == pytest.approx(whole.values[first : first + 3].sum())

    def test_a_series_that_cannot_be_binned_is_refused(self) -> None:
        with pytest.raises(TooShort, match="no whole part of 180 s"):
            intervals_of(Series(0.0, 600.0, np.ones(3000)), 180)
        with pytest.raises(TooShort, match="6 days|6.0 days"):
            intervals_of(minutes(days=6), 180)

    def test_ours_uses_past_values_only(self) -> None:
        """Predictions before an interval do not depend on the load from that interval on."""
        whole = minutes()
        intervals = intervals_of(whole, 600)
        predictions = ours(intervals)
        changed = whole.values.copy()
        begin = (intervals.test_from + RUN_IN + 50) * 10
        changed[begin:] *= 3
        other = ours(intervals_of(Series(0.0, 60.0, changed), 600))
        assert len(predictions) == SCORED
        assert other[:51].tolist() == predictions[:51].tolist()
        assert (other[52:60] > 1.5 * predictions[52:60]).all()
        assert share_missed(predictions, intervals) < share_missed(intervals.last, intervals)


class TestPeers:
    def test_every_predictor_has_a_row_or_one_reason_is_given(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        intervals = intervals_of(minutes(), 600)
        heard: list[str] = []
        monkeypatch.setattr(forecast, "ours", lambda given: given.actual * 1.01)
        monkeypatch.setattr(
            forecast,
            "predict",
            lambda name, values, first: np.array([*values[first:], 0.0]) * 1.02,
        )
        rows = forecast.interval_rows("x", intervals, heard.append)
        assert [row.peer for row in rows] == ["last-value", *(f"Dynamo {p}" for p in PREDICTORS)]
        assert all(row.ok for row in rows)
        assert rows[1].ratio == pytest.approx(0.5)

        def refused(name: str, values: object, first: int) -> None:
            raise NotInstalled("ai-dynamo 1.3.1 cannot be had: no such host")

        monkeypatch.setattr(forecast, "predict", refused)
        rows = forecast.interval_rows("x", intervals, heard.append)
        assert [row.peer for row in rows] == ["last-value"]
        assert heard[-1] == "skipped: ai-dynamo 1.3.1 cannot be had: no such host"
