"""`POST /v1/forecast`: what the forecaster writes is what its readers parse."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.forecast_request import parse_forecast_request
from r1_common.contracts.forecast_response import (
    ForecastResponse,
    GateState,
    InvalidForecast,
    LevelCoverage,
    NoForecast,
    Observation,
    QuantilesAt,
    ReadyForecast,
    forecast_document,
    parse_forecast_response,
    shown_level,
)

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = st.floats(-1e15, 1e15)
SHARES = st.none() | st.floats(0, 1)
LEVELS = st.floats(0.01, 0.999).map(shown_level)
QUANTILES = st.dictionaries(LEVELS, NUMBERS, max_size=4)
OBSERVATIONS = st.builds(Observation, NUMBERS, NUMBERS)
READY = st.builds(
    ReadyForecast,
    st.text(),
    st.text(),
    st.text(),
    NUMBERS,
    NUMBERS,
    st.text(),
    st.builds(GateState, st.booleans(), st.text(), st.text(), st.dictionaries(st.text(), NUMBERS)),
    st.lists(st.builds(QuantilesAt, NUMBERS, QUANTILES), max_size=3).map(tuple),
    QUANTILES,
    st.dictionaries(LEVELS, st.builds(LevelCoverage, SHARES, st.integers(0, 10**6), SHARES)),
    OBSERVATIONS,
    st.none() | NUMBERS,
)
MISSING = st.builds(NoForecast, st.text(), st.text(), st.text(), st.none() | OBSERVATIONS)

EXAMPLE: dict[str, Any] = forecast_document(
    ReadyForecast(
        series_name="default/r1",
        reason="BeatsBaselines",
        message="lstm is in use",
        issued_at=100.0,
        valid_until=160.0,
        model="lstm",
        gate=GateState(True, "BeatsBaselines", "lstm is in use", {"lstm": 0.9}),
        points=(QuantilesAt(160.0, {0.5: 10.0, 0.9: 14.0}),),
        peak_over_lead={0.5: 11.0, 0.9: 15.0},
        coverage={0.9: LevelCoverage(None, 0, 0.91)},
        last_observed=Observation(90.0, 9.0),
        age_seconds=2.0,
    )
)


@given(READY | MISSING)
def test_forecast_responses_round_trip_through_json(response: ForecastResponse) -> None:
    document = json.loads(json.dumps(forecast_document(response)))
    assert parse_forecast_response(document) == response


def test_unknown_fields_of_a_forecast_are_ignored() -> None:
    later = copy.deepcopy(EXAMPLE) | {"later": [1]}
    for part in (
        later["gate"],
        later["points"][0],
        later["coverage"]["0.9"],
        later["lastObserved"],
    ):
        part["later"] = "x"
    assert parse_forecast_response(later) == parse_forecast_response(EXAMPLE)


WRONG: list[tuple[str, Any, str]] = [
    *((field, 7, field) for field in ("series", "state", "reason", "message", "model", "gate")),
    *((field, "x", field) for field in ("issuedAt", "validUntil", "ageSeconds", "points")),
    *((field, None, field) for field in ("peakOverLead", "coverage", "lastObserved", "issuedAt")),
    ("state", "Later", "state must be Ready or Unavailable"),
    ("issuedAt", True, "issuedAt"),
    ("issuedAt", float("nan"), "issuedAt"),
    ("validUntil", 10**400, "validUntil"),
    ("gate", EXAMPLE["gate"] | {"open": "yes"}, r"gate\.open"),
    ("gate", EXAMPLE["gate"] | {"scores": {"lstm": None}}, r"gate\.scores\.lstm"),
    ("points", [7], r"points\[0\]"),
    ("points", [{"at": 1.0, "quantiles": {"0.5": "x"}}], r"points\[0\]\.quantiles\.0\.5"),
    ("peakOverLead", {"0.5": "x"}, r"peakOverLead\.0\.5"),
    ("peakOverLead", {"half": 1.0}, r"peakOverLead\.half must be a level from 0 to 1"),
    ("peakOverLead", {"1.5": 1.0}, r"peakOverLead\.1\.5"),
    ("coverage", {"0.9": {"live": 0.9, "samples": "x"}}, r"coverage\.0\.9\.samples"),
    ("lastObserved", {"at": 1.0}, r"lastObserved\.value"),
]


@pytest.mark.parametrize(("field", "value", "named"), WRONG)
def test_a_wrong_field_of_a_forecast_is_named(field: str, value: Any, named: str) -> None:
    with pytest.raises(InvalidForecast, match=f"^{named}"):
        parse_forecast_response(EXAMPLE | {field: value})


@pytest.mark.parametrize("field", ["series", "reason", "message"])
def test_a_missing_field_of_a_response_without_a_forecast_is_named(field: str) -> None:
    document = forecast_document(NoForecast("default/r1", "Training", "Wait."))
    with pytest.raises(InvalidForecast, match=f"^{field} "):
        parse_forecast_response({key: document[key] for key in document if key != field})


@pytest.mark.parametrize("document", [None, [], "x", 3])
def test_a_forecast_that_is_no_object_is_rejected(document: object) -> None:
    with pytest.raises(InvalidForecast, match="the response must be a JSON object"):
        parse_forecast_response(document)


def test_the_documented_forecast_and_its_request_parse() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.partition("## Contract: forecast ")[2].partition("\n## ")[0]
    request, response = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    assert parse_forecast_request(json.loads(request)).lead == 45.0
    assert isinstance(parse_forecast_response(json.loads(response)), ReadyForecast)
