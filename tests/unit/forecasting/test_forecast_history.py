"""Reading Prometheus: pieces that fit its limit, failures that say whose they are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import requests
from prometheus_api_client import PrometheusApiClientException

from r1_forecasting.history import CHUNK_POINTS, PrometheusHistory, chunks
from r1_forecasting.protocol import Reason, Unavailable
from r1_forecasting.series import Series


def test_a_fortnight_of_minutes_comes_in_pieces_below_the_limit() -> None:
    step, until = 60.0, 1_700_000_040.0
    pieces = list(chunks(step, until - 1_209_600, until))
    sizes = [round((last - first) / step) + 1 for first, last in pieces]
    assert len(pieces) == 3
    assert max(sizes) <= CHUNK_POINTS < 11_000
    assert sum(sizes) == 20_161
    for (_, before), (after, _) in pairwise(pieces):
        assert after - before == pytest.approx(step)


def test_times_asked_for_lie_on_the_grid_within_the_range() -> None:
    ((first, last),) = chunks(4.0, 101.0, 119.9)
    assert (first, last) == (104.0, 116.0)
    assert list(chunks(60.0, 61.0, 100.0)) == []


class Answers:
    """A Prometheus client that answers with what a test says."""

    def __init__(self, act: Callable[[], list[dict[str, Any]]]) -> None:
        self.act = act
        self.asked: list[dict[str, str]] = []

    def custom_query_range(
        self, query: str, start: object, end: object, step: str, params: dict[str, str]
    ) -> list[dict[str, Any]]:
        self.asked.append(params | {"step": step})
        return self.act()


def read(act: Callable[[], list[dict[str, Any]]]) -> tuple[Series | Unavailable, Answers]:
    history, client = PrometheusHistory("http://127.0.0.1:1"), Answers(act)
    history._local.client = client
    return history.read("demand", 4.167, 0, 100), client


def test_values_come_as_text_and_may_be_nan() -> None:
    made, client = read(lambda: [{"metric": {}, "values": [[4.167, "7"], [8.334, "NaN"]]}])
    assert isinstance(made, Series)
    assert made.values.tolist() == [7.0]
    assert client.asked == [{"start": "0.000", "end": "95.841", "step": "4.167"}]


def refuse(error: Exception) -> Callable[[], list[dict[str, Any]]]:
    def act() -> list[dict[str, Any]]:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "reason", "said"),
    [
        (list, Reason.NO_DATA, "no samples"),
        (lambda: [{"values": []}, {"values": []}], Reason.FAILED, "wrap it in sum"),
        (
            refuse(PrometheusApiClientException("HTTP Status Code 400 (b'parse error')")),
            Reason.FAILED,
            "refused the query",
        ),
        (
            refuse(PrometheusApiClientException("HTTP Status Code 503 (b'')")),
            Reason.PROMETHEUS_UNREACHABLE,
            "503",
        ),
        (refuse(requests.ConnectionError()), Reason.PROMETHEUS_UNREACHABLE, "ConnectionError"),
        (refuse(requests.Timeout()), Reason.PROMETHEUS_UNREACHABLE, "Timeout"),
        (refuse(ValueError("not JSON")), Reason.PROMETHEUS_UNREACHABLE, "ValueError"),
    ],
)
def test_a_failure_is_typed(
    act: Callable[[], list[dict[str, Any]]], reason: Reason, said: str
) -> None:
    refused, _ = read(act)
    assert isinstance(refused, Unavailable)
    assert refused.reason is reason
    assert said in refused.message


def test_nobody_listening_is_unreachable() -> None:
    refused = PrometheusHistory("http://127.0.0.1:9", timeout_seconds=1).read("up", 1, 0, 10)
    assert isinstance(refused, Unavailable)
    assert refused.reason is Reason.PROMETHEUS_UNREACHABLE
