"""History from Prometheus: chunks within its limit, and typed failures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import pytest

from r1_common.prometheus.client_config import load_config
from r1_forecasting.series.prometheus_history import CHUNK_POINTS, PrometheusHistory, chunks
from r1_forecasting.series.series import Series
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason
from scripted_prometheus import Reply, Script, scripted, success


def test_history_of_14_days_is_read_in_chunks_below_the_limit() -> None:
    step, until = 60.0, 1_700_000_040.0
    pieces = list(chunks(step, until - 1_209_600, until))
    sizes = [round((last - first) / step) + 1 for first, last in pieces]
    assert len(pieces) == 3
    assert max(sizes) <= CHUNK_POINTS < 11_000
    assert sum(sizes) == 20_161
    for (_, before), (after, _) in pairwise(pieces):
        assert after - before == pytest.approx(step)


def test_query_times_lie_on_the_grid_within_the_range() -> None:
    ((first, last),) = chunks(4.0, 101.0, 119.9)
    assert (first, last) == (104.0, 116.0)
    assert list(chunks(60.0, 61.0, 100.0)) == []


def read(server: Script, body: bytes) -> Series | ForecastUnavailable:
    server.reply = Reply(200, body)
    history = PrometheusHistory(load_config(server.url))
    series = history.read("demand", 4.167, 0, 100)
    history._local.session.close()
    return series


@pytest.fixture
def server() -> Iterator[Script]:
    with scripted() as script:
        yield script


def test_values_come_as_text_and_may_be_nan(server: Script) -> None:
    made = read(server, success([{"metric": {}, "values": [[4.167, "7"], [8.334, "NaN"]]}]))
    assert isinstance(made, Series)
    assert made.values.tolist() == [7.0]
    sent = parse_qs(urlsplit(server.requests[0][0]).query)
    assert sent == {"query": ["demand"], "start": ["0.000"], "end": ["95.841"], "step": ["4.167"]}


@pytest.mark.parametrize(
    ("body", "reason", "expected"),
    [
        (success([]), UnavailableReason.NO_DATA, "no samples"),
        (success([{"values": []}, {"values": []}]), UnavailableReason.FAILED, "wrap it in sum"),
        (success([], "vector"), UnavailableReason.FAILED, "returned a vector"),
        (success([{"values": [[1]]}]), UnavailableReason.FAILED, "invalid series"),
        (
            b'{"status": "error", "error": "parse error"}',
            UnavailableReason.FAILED,
            "rejected the query",
        ),
        (b"pong", UnavailableReason.PROMETHEUS_UNREACHABLE, "not JSON"),
    ],
)
def test_a_failure_is_typed(
    server: Script, body: bytes, reason: UnavailableReason, expected: str
) -> None:
    refused = read(server, body)
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is reason
    assert expected in refused.message


def test_closed_port_is_unreachable() -> None:
    history = PrometheusHistory(load_config("http://127.0.0.1:9"), timeout_seconds=1)
    refused = history.read("up", 1, 0, 10)
    assert isinstance(refused, ForecastUnavailable)
    assert refused.reason is UnavailableReason.PROMETHEUS_UNREACHABLE
