"""A forwarded request arrives unchanged."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.forecast_request import (
    ActivationRule,
    parse_forecast_request,
    request_document,
)

text = st.text(min_size=1, max_size=40).filter(lambda value: value.strip() != "")
levels = st.lists(st.floats(0.01, 0.999), min_size=1, max_size=16)
classes = st.dictionaries(st.sampled_from(["Q1", "Q2", "Q3"]), text)


@given(
    st.data(),
    text,
    st.floats(0.1, 1e4),
    st.floats(4, 3000),
    st.floats(0, 1),
    levels,
    st.sampled_from(ActivationRule),
    classes,
)
def test_any_request_round_trips_through_json(
    data: st.DataObject,
    words: str,
    step: float,
    season: float,
    share: float,
    levels_: list[float],
    activation: ActivationRule,
    by_class: dict[str, str],
) -> None:
    history = 4 * (season + 1) * step
    request = parse_forecast_request(
        {
            "series": words,
            "query": words,
            "stepSeconds": step,
            "seasonSeconds": (season + 1) * step,
            "historySeconds": history,
            "leadSeconds": share * history,
            "levels": levels_,
            "decisionLevel": data.draw(st.sampled_from(levels_)),
            "weekly": data.draw(st.booleans()),
            "activation": activation,
            "classQueries": by_class,
        }
    )
    assert parse_forecast_request(json.loads(json.dumps(request_document(request)))) == request
