"""Parts of the forecaster benchmark: a deterministic history, and a simulated training queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from r1_bench.forecaster.backfill import STEP, RecordedHistory, as_matrix
from r1_bench.forecaster.requests import ForecasterClients, TimedResponse, quantile, request_body
from r1_bench.forecaster.rounds import rounds
from r1_bench.forecaster.shards import Release, minute_rows
from r1_common.contracts.forecast_request import parse_forecast_request
from r1_forecasting.series.shape import shape_of

MINUTE = 28_000_000
HISTORIES = RecordedHistory((np.array([60.0, np.nan, 120.0, 30.0]), np.full(5, 10.0)))


def test_the_value_of_a_minute_is_deterministic() -> None:
    whole = HISTORIES.series(7, MINUTE, MINUTE + 50)
    part = HISTORIES.series(7, MINUTE + 20, MINUTE + 30)
    np.testing.assert_array_equal(whole.values[20:31], part.values)
    assert part.start == (MINUTE + 20) * STEP
    other = HISTORIES.series(9, MINUTE, MINUTE + 50)
    assert not np.array_equal(whole.values, other.values)


def test_gaps_are_absent_from_the_response() -> None:
    response = json.loads(as_matrix(HISTORIES.series(0, MINUTE, MINUTE + 7)))
    (series,) = response["data"]["result"]
    assert len(series["values"]) == 6
    assert all(float(value) > 0 for _, value in series["values"])
    nothing = json.loads(as_matrix(RecordedHistory((np.full(3, np.nan),)).series(0, 0, 2)))
    assert nothing["data"]["result"] == []


def test_the_forecaster_accepts_the_request() -> None:
    request = parse_forecast_request(request_body(3))
    assert (request.history_steps, shape_of(request).season) == (20_160, 1440)


def test_latencies_are_grouped_by_shard() -> None:
    made = Release(["r1-forecaster-0", "r1-forecaster-1"], [0, 0], ForecasterClients(()))
    responses = [TimedResponse(n, n % 2, 0.001 * (n + 1), "BeatsBaselines") for n in range(40)]
    here, there = made.owned(responses, here=True), made.owned(responses, here=False)
    assert len(here) + len(there) == 40
    assert all(made.owner(each.series_number) == each.shard for each in here)
    rows = {row.name: row for row in minute_rows("x", made, responses, [0.3, 0.6], 60.0)}
    assert rows["x: forwarded responses, p50"].ours == quantile(there, 0.5)
    assert rows["x: forwarded responses, p50"].peer_value == quantile(here, 0.5)
    assert rows["x: shard 1, share of a core"].ours == pytest.approx(0.01)
    assert rows["x: CPU of a response, all shards"].ours == pytest.approx(22.5)
    assert rows["x: owner did not respond"].ok is True
    assert (
        minute_rows("x", made, [TimedResponse(0, 0, 2.5, "Unreachable")], [0, 0], 1)[-1].ok is False
    )


def test_a_share_of_latencies_is_within_the_limit() -> None:
    responses = [TimedResponse(0, 0, seconds, "") for seconds in (0.004, 0.001, 0.003, 0.002)]
    assert (quantile(responses, 0.5), quantile(responses, 0.99)) == (3.0, 4.0)
    assert np.isnan(quantile([], 0.5))


def test_all_are_fitted_once_and_refits_keep_their_share() -> None:
    simulated = rounds(100, cost=30.0, share=0.25, days=3.0)
    assert simulated.all_fitted == pytest.approx(100 * 30, rel=0.05)
    assert simulated.refit_share <= 0.2501
    assert simulated.oldest_fit < 1.6 * 86_400


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
