"""Any JSON document is parsed or rejected with the declared error of its payload."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.forecast_request import InvalidForecastRequest, parse_forecast_request
from r1_common.contracts.forecast_response import InvalidForecast, parse_forecast_response
from r1_common.contracts.signals import InvalidSignals, parse_latencies, parse_signals

FIELDS = (
    "state", "series", "reason", "message", "issuedAt", "validUntil", "model", "gate", "open", "scores",
    "points", "at", "quantiles", "peakOverLead", "0.5", "coverage", "live", "samples", "lastObserved",
    "value", "query", "stepSeconds", "seasonSeconds", "historySeconds", "leadSeconds", "levels",
    "decisionLevel", "weekly", "activation", "classQueries", "gateway", "startedAt", "secondsBuckets",
    "routes", "a/b", "offeredRequests", "Q1", "timeToFirstToken", "counts", "sumSeconds",
)  # fmt: skip
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**400)
    | st.sampled_from(["Ready", "Unavailable", "", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=8)
    ),
    max_leaves=30,
)


@given(DOCUMENTS)
def test_any_document_is_parsed_or_rejected_with_the_error_of_its_payload(document: Any) -> None:
    with contextlib.suppress(InvalidSignals):
        parse_signals(document)
    with contextlib.suppress(InvalidSignals):
        parse_latencies(document, (0.1,))
    with contextlib.suppress(InvalidForecast):
        parse_forecast_response(document)
    with contextlib.suppress(InvalidForecastRequest):
        parse_forecast_request(document)
