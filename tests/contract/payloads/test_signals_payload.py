"""`GET /signals`: what a gateway writes is what the operator parses."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.signals import (
    HistogramCounts,
    InvalidSignals,
    RouteLatencies,
    RouteSignals,
    SignalsHeader,
    header_document,
    parse_header,
    parse_latencies,
    parse_oldest_waits,
    parse_signals,
    route_document,
)
from r1_common.contracts.unavailable import Unavailable

ROOT = Path(__file__).resolve().parents[3]
BUCKETS = (0.1, 1.0)
FIGURES = st.floats(0, 1e15)
BY_CLASS = st.dictionaries(st.sampled_from(["Q1", "Q2", "Q3"]), FIGURES)
HISTOGRAMS = st.dictionaries(
    st.sampled_from(["Q1", "Q2", "Q3"]),
    st.builds(HistogramCounts, st.tuples(FIGURES, FIGURES, FIGURES), FIGURES),
)
HEADERS = st.builds(
    SignalsHeader, st.text(), FIGURES, FIGURES, st.none() | FIGURES, st.just(BUCKETS)
)
ROUTES = st.builds(
    RouteSignals,
    *[BY_CLASS] * 9,
    st.none() | st.dictionaries(st.text(), FIGURES),
    FIGURES,
    st.none() | FIGURES,
    FIGURES,
    FIGURES,
    st.none() | BY_CLASS,
)
LATENCIES = st.builds(RouteLatencies, HISTOGRAMS, HISTOGRAMS)

EXAMPLE: dict[str, Any] = {
    "gateway": "gw-0",
    "startedAt": 100.0,
    "at": 200.0,
    "uptimeSeconds": 100.0,
    "secondsBuckets": [0.1, 1.0],
    "routes": {
        "default/r1": {
            "offeredRequests": {"Q1": 1, "Q2": 2},
            "offeredTokens": {"Q1": 10},
            "completed": {"Q1": 1},
            "failed": {},
            "rejected": {"Q3": 1},
            "cancelled": {},
            "queued": {"Q1": 1},
            "oldestWaitSeconds": {"Q1": 0.1},
            "inFlight": {"Q1": 2},
            "inFlightByEndpoint": {"10.1.0.4:8000": 2},
            "queuedWithoutEndpoints": 0,
            "seatOccupancySeconds": None,
            "seats": 16,
            "readyEndpoints": 2,
            "timeToFirstToken": {"Q1": {"counts": [0, 3, 1], "sumSeconds": 0.4}},
            "latency": {},
        }
    },
}
[NAME] = EXAMPLE["routes"]
COUNTERS = [
    field
    for field in EXAMPLE["routes"][NAME]
    if field not in ("timeToFirstToken", "latency", "seatOccupancySeconds")
]


def example(**route: Any) -> dict[str, Any]:
    document = copy.deepcopy(EXAMPLE)
    document["routes"][NAME] |= route
    return document


@given(HEADERS, st.dictionaries(st.text(), st.tuples(ROUTES, LATENCIES), max_size=3))
def test_signals_round_trip_through_json(
    header: SignalsHeader, routes: dict[str, tuple[RouteSignals, RouteLatencies]]
) -> None:
    entries = {name: route_document(*parts) for name, parts in routes.items()}
    document = json.loads(json.dumps({**header_document(header), "routes": entries}))
    parsed = parse_signals(document)
    assert parsed.header == parse_header(document) == header
    assert parsed.routes == {name: signals for name, (signals, _) in routes.items()}
    for name, (signals, latencies) in routes.items():
        assert parse_latencies(document["routes"][name], BUCKETS) == latencies
        assert parse_oldest_waits(document["routes"][name]) == signals.oldest_wait_seconds


def test_unknown_fields_of_signals_are_ignored() -> None:
    later = example(later=[1]) | {"later": {"a": "b"}}
    assert parse_signals(later) == parse_signals(EXAMPLE)


@pytest.mark.parametrize("value", [None, "x", True, [[]], {}, 10**400, float("nan")])
@pytest.mark.parametrize("field", ["gateway", "startedAt", "at", "secondsBuckets", "routes"])
def test_a_wrong_header_field_of_signals_is_named(field: str, value: Any) -> None:
    right: dict[str, type] = {"gateway": str, "secondsBuckets": type(None), "routes": dict}
    if field in right and isinstance(value, right[field]):
        return
    with pytest.raises(InvalidSignals, match=rf"^{field}(\[0\])? "):
        parse_signals(EXAMPLE | {field: value})


@pytest.mark.parametrize(
    "value", ["x", True, [1], {"Q1": "one"}, {"Q1": None}, {"Q1": -1}, -1, 1e999]
)
@pytest.mark.parametrize("field", COUNTERS)
def test_a_wrong_field_of_a_route_is_named_and_leaves_other_routes_valid(
    field: str, value: Any
) -> None:
    document = example(**{field: value})
    document["routes"]["default/other"] = EXAMPLE["routes"][NAME]
    routes = parse_signals(document).routes
    assert isinstance(routes["default/other"], RouteSignals)
    wrong = routes[NAME]
    assert isinstance(wrong, Unavailable)
    assert re.match(rf"Signals do not parse: {field}(\.Q1)? must be ", wrong.message)


@pytest.mark.parametrize("field", COUNTERS)
def test_a_missing_field_of_a_route_is_named_unless_it_is_optional(field: str) -> None:
    document = example()
    del document["routes"][NAME][field]
    route = parse_signals(document).routes[NAME]
    if field == "inFlightByEndpoint":
        assert isinstance(route, RouteSignals)
        assert route.in_flight_by_endpoint is None
    else:
        assert isinstance(route, Unavailable)
        assert field in route.message


@pytest.mark.parametrize(
    ("latency", "field"),
    [
        (None, "latency"),
        ([], "latency"),
        ({"Q2": {}}, r"latency\.Q2\.counts"),
        ({"Q2": {"counts": [1], "sumSeconds": 1.0}}, r"latency\.Q2\.counts"),
        ({"Q2": {"counts": [1, 1, -1], "sumSeconds": 1.0}}, r"counts"),
        ({"Q2": {"counts": [1, 1, 1], "sumSeconds": "x"}}, r"latency\.Q2\.sumSeconds"),
    ],
)
def test_wrong_histograms_are_named(latency: Any, field: str) -> None:
    with pytest.raises(InvalidSignals, match=field):
        parse_latencies(example(latency=latency)["routes"][NAME], BUCKETS)
    assert isinstance(parse_signals(example(latency=latency)).routes[NAME], RouteSignals)


def test_the_documented_signals_parse() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    [block] = [b for b in re.findall(r"```json\n(.*?)```", text, re.DOTALL) if '"startedAt"' in b]
    document = json.loads(block)
    [route] = parse_signals(document).routes.values()
    assert isinstance(route, RouteSignals)
    assert parse_header(document).uptime_seconds == 123.4
