"""External metrics by a real Prometheus: what its answers look like, and what becomes of them."""

from __future__ import annotations

import asyncio

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_common.prometheus.client_config import load_config
from r1_operator.kube.kinds import Key
from r1_operator.sources.external import ExternalMetrics

KEY = Key("default", "production-r1")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("scalar(vector(3))", 3.0),
        ("vector(0.5)", 0.5),
        ("count(last_over_time(r1_gateway_requests_offered_total[1d]))", 1.0),
        ("sum(nobody_total)", "NoData"),
        ("vector(0) / 0", "NotANumber"),
        ("vector(1) or label_replace(vector(2), 'a', 'b', '', '')", "NotOneValue"),
        ("sum(", "Refused"),
        ("r1_gateway_requests_offered_total[5m]", "NotOneValue"),
    ],
)
async def test_the_endpoint_returns_one_value_or_a_reason(
    prometheus: str, query: str, expected: float | str
) -> None:
    source = ExternalMetrics(load_config(prometheus))
    value = source.latest(KEY, query)
    assert isinstance(value, Unavailable)
    assert value.reason == "Pending"
    for _ in range(1000):
        value = source.latest(KEY, query)
        if not (isinstance(value, Unavailable) and value.reason == "Pending"):
            break
        await asyncio.sleep(0.02)
    await source.close()
    assert (value.reason if isinstance(value, Unavailable) else value) == expected
