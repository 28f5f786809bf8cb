"""The benchmark's own parts: a past that stays the same, and a queue played to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from r1_bench.forecaster.backfill import STEP, RecordedPast, as_matrix
from r1_bench.forecaster.requests import Doors, QueryResult, quantile, question
from r1_bench.forecaster.rounds import rounds
from r1_bench.forecaster.shards import Release, minute_rows
from r1_common.contracts.forecast_request import parse_forecast_request
from r1_forecasting.series.shape import shape_of

MINUTE = 28_000_000
PAST = RecordedPast((np.array([60.0, np.nan, 120.0, 30.0]), np.full(5, 10.0)))


def test_the_value_of_a_minute_is_deterministic() -> None:
    whole = PAST.series(7, MINUTE, MINUTE + 50)
    part = PAST.series(7, MINUTE + 20, MINUTE + 30)
    np.testing.assert_array_equal(whole.values[20:31], part.values)
    assert part.start == (MINUTE + 20) * STEP
    other = PAST.series(9, MINUTE, MINUTE + 50)
    assert not np.array_equal(whole.values, other.values)


def test_gaps_are_absent_from_the_response() -> None:
    found = json.loads(as_matrix(PAST.series(0, MINUTE, MINUTE + 7)))
    (series,) = found["data"]["result"]
    assert len(series["values"]) == 6
    assert all(float(value) > 0 for _, value in series["values"])
    nothing = json.loads(as_matrix(RecordedPast((np.full(3, np.nan),)).series(0, 0, 2)))
    assert nothing["data"]["result"] == []


def test_the_forecaster_accepts_the_request() -> None:
    asked = parse_forecast_request(question(3))
    assert (asked.history_steps, shape_of(asked).season) == (20_160, 1440)


def test_latencies_are_grouped_by_shard() -> None:
    made = Release(["r1-forecaster-0", "r1-forecaster-1"], [0, 0], Doors(()))
    asked = [QueryResult(n, n % 2, 0.001 * (n + 1), "BeatsBaselines") for n in range(40)]
    here, there = made.owned(asked, here=True), made.owned(asked, here=False)
    assert len(here) + len(there) == 40
    assert all(made.owner(each.subject) == each.door for each in here)
    rows = {row.name: row for row in minute_rows("x", made, asked, [0.3, 0.6], 60.0)}
    assert rows["x: forwarded answers, p50"].ours == quantile(there, 0.5)
    assert rows["x: forwarded answers, p50"].peer_value == quantile(here, 0.5)
    assert rows["x: shard 1 takes of a core"].ours == pytest.approx(0.01)
    assert rows["x: CPU of an answer, all shards"].ours == pytest.approx(22.5)
    assert rows["x: owner silent"].ok is True
    assert (
        minute_rows("x", made, [QueryResult(0, 0, 2.5, "Unreachable")], [0, 0], 1)[-1].ok is False
    )


def test_a_share_of_latencies_is_within_the_limit() -> None:
    asked = [QueryResult(0, 0, seconds, "") for seconds in (0.004, 0.001, 0.003, 0.002)]
    assert (quantile(asked, 0.5), quantile(asked, 0.99)) == (3.0, 4.0)
    assert np.isnan(quantile([], 0.5))


def test_all_are_fitted_once_and_refits_keep_their_share() -> None:
    played = rounds(100, cost=30.0, share=0.25, days=3.0)
    assert played.all_fitted == pytest.approx(100 * 30, rel=0.05)
    assert played.refit_share <= 0.2501
    assert played.oldest_fit < 1.6 * 86_400


def test_too_few_days_give_no_number() -> None:
    assert np.isnan(rounds(1000, cost=1000.0, share=0.25, days=0.1).all_fitted)


def test_without_traces_the_error_names_the_variable() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "R1_TRACES"}
    command = [sys.executable, "-m", "r1_bench.forecaster"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "R1_TRACES is not set" in done.stderr
