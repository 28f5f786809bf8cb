"""`route.json`: the writer and the parser agree."""

from __future__ import annotations

import json

from r1_common.contracts.priority_classes import ClassPolicy, PriorityClass
from r1_common.contracts.route import RouteSpec, Timeouts, parse_route, to_document

SPEC = RouteSpec(
    namespace="team",
    name="r1",
    models=("r1", "chat"),
    seats_per_replica=16,
    default_class=PriorityClass.Q3,
    policies=(
        ClassPolicy(0, 30.0, 5.0, 0.029),
        ClassPolicy(512, 0.5, 30.0, 2.0),
        ClassPolicy(1024, 900.0, 120.0),
    ),
    may_wake=True,
    timeouts=Timeouts(connect_seconds=1.5),
)


def test_route_document_parses_to_the_same_route() -> None:
    assert parse_route(json.loads(json.dumps(to_document(SPEC)))) == SPEC


def test_route_document_writes_whole_numbers_without_a_fraction() -> None:
    assert to_document(SPEC)["classes"]["Q1"] == {
        "maxQueueLength": 0,
        "maxQueueSeconds": 30,
        "ageAfterSeconds": 5,
        "timeToFirstTokenMilliseconds": 29,
    }
    assert '"maxQueueSeconds": 30,' in json.dumps(to_document(SPEC))


def test_route_document_omits_default_timeouts() -> None:
    document = to_document(RouteSpec("team", "r1", ("r1",), 1))
    assert "timeouts" not in document
    assert parse_route(document) == RouteSpec("team", "r1", ("r1",), 1)
