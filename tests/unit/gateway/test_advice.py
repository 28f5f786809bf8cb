"""What an operator may tell a gateway: read whole, or refused with the field's name."""

from __future__ import annotations

import json

import pytest

from r1_gateway.admission.classes import PriorityClass
from r1_gateway.admission.reservation_request import InvalidReservation, parse_reservations


def test_advice_is_seats_by_route_and_class_for_a_while() -> None:
    body = json.dumps({"validSeconds": 10, "routes": {"default/chat": {"Q1": 3, "Q2": 0}}})
    advice = parse_reservations(body.encode())
    assert advice.valid_seconds == 10.0
    assert advice.routes == {"default/chat": {PriorityClass.Q1: 3, PriorityClass.Q2: 0}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "not JSON"),
        ("[]", "must be an object"),
        ('{"routes": {}}', "validSeconds must be a number"),
        ('{"validSeconds": true, "routes": {}}', "validSeconds must be a number"),
        ('{"validSeconds": NaN, "routes": {}}', "NaN is not a JSON number"),
        ('{"validSeconds": 1%s, "routes": {}}' % ("0" * 400), "at most 60"),
        ("[" * 100_000, "nested too deeply"),
        ('{"validSeconds": 0, "routes": {}}', "validSeconds must be above 0"),
        ('{"validSeconds": 61, "routes": {}}', "at most 60"),
        ('{"validSeconds": 1}', "routes must be an object"),
        ('{"validSeconds": 1, "routes": {"a/b": 3}}', "routes.a/b must be an object"),
        ('{"validSeconds": 1, "routes": {"a/b": {"Q4": 1}}}', "unknown class 'Q4'"),
        ('{"validSeconds": 1, "routes": {"a/b": {"Q1": -1}}}', "routes.a/b.Q1"),
        ('{"validSeconds": 1, "routes": {"a/b": {"Q1": 1.5}}}', "routes.a/b.Q1"),
        ('{"validSeconds": 1, "routes": {"a/b": {"Q1": true}}}', "routes.a/b.Q1"),
    ],
)
def test_what_is_no_advice_is_refused_by_its_field(body: str, says: str) -> None:
    with pytest.raises(InvalidReservation, match=says):
        parse_reservations(body.encode())
