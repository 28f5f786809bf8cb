"""Body of `PUT /seat-reservations`: read whole, or rejected with the field's name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.priority_classes import PriorityClass
from r1_common.contracts.seat_reservations import (
    LONGEST_SECONDS,
    MOST_SEATS,
    InvalidReservation,
    ReservationRequest,
    parse_reservations,
    reservations_document,
)

REQUESTS = st.builds(
    ReservationRequest,
    st.floats(0, LONGEST_SECONDS, exclude_min=True),
    st.dictionaries(
        st.text(),
        st.dictionaries(st.sampled_from(PriorityClass), st.integers(0, MOST_SEATS)),
        max_size=4,
    ),
)


@given(REQUESTS)
def test_reservation_requests_round_trip_through_json(request: ReservationRequest) -> None:
    assert parse_reservations(json.dumps(reservations_document(request)).encode()) == request


def test_unknown_fields_of_a_reservation_request_are_ignored() -> None:
    body = {"validSeconds": 10, "routes": {"default/chat": {"Q1": 3}}}
    assert parse_reservations(json.dumps(body | {"later": [1]}).encode()) == parse_reservations(
        json.dumps(body).encode()
    )


def test_a_reservation_request_names_seats_by_route_and_class() -> None:
    body = json.dumps({"validSeconds": 10, "routes": {"default/chat": {"Q1": 3, "Q2": 0}}})
    request = parse_reservations(body.encode())
    assert request.valid_seconds == 10.0
    assert request.routes == {"default/chat": {PriorityClass.Q1: 3, PriorityClass.Q2: 0}}


@pytest.mark.parametrize(
    ("body", "message"),
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
def test_an_invalid_reservation_request_is_rejected_with_the_field(body: str, message: str) -> None:
    with pytest.raises(InvalidReservation, match=message):
        parse_reservations(body.encode())
