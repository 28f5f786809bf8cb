"""Body of ``PUT /seat-reservations``, written by the operator and read by every gateway.

It holds the seats to reserve by route and class, and their validity. ARCHITECTURE.md has the
contract. An invalid body is rejected whole and leaves the earlier reservations in force. Routes that
a gateway does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_common.contracts.priority_classes import BY_NAME, PriorityClass
from r1_common.untrusted_json import InvalidJson, parse_json

LONGEST_SECONDS = 60.0
MOST_SEATS = 1_000_000


class InvalidReservation(ValueError):
    """The body is no reservation request; the message names the field."""


@dataclass(frozen=True, slots=True)
class ReservationRequest:
    """Seats to reserve for a class and those above it, by route (``namespace/name``)."""

    valid_seconds: float
    routes: Mapping[str, Mapping[PriorityClass, int]]


def parse_reservations(body: bytes) -> ReservationRequest:
    """Read ``{"validSeconds": 10, "routes": {"default/chat": {"Q1": 3}}}``.

    Raises:
        InvalidReservation: the body has another form.
    """
    try:
        document = parse_json(body)
    except InvalidJson as error:
        raise InvalidReservation(str(error)) from None
    if not isinstance(document, dict):
        raise InvalidReservation("the body must be an object with validSeconds and routes")
    valid = document.get("validSeconds")
    if isinstance(valid, bool) or not isinstance(valid, int | float):
        raise InvalidReservation("validSeconds must be a number")
    if not 0 < valid <= LONGEST_SECONDS:
        raise InvalidReservation(f"validSeconds must be above 0 and at most {LONGEST_SECONDS:g}")
    routes = document.get("routes")
    if not isinstance(routes, dict):
        raise InvalidReservation("routes must be an object of namespace/name")
    return ReservationRequest(
        float(valid), {key: _seats(key, seats) for key, seats in routes.items()}
    )


def reservations_document(request: ReservationRequest) -> dict[str, Any]:
    """The JSON body that `parse_reservations` parses into an equal request."""
    return {
        "validSeconds": request.valid_seconds,
        "routes": {
            key: {klass.name: count for klass, count in seats.items()}
            for key, seats in request.routes.items()
        },
    }


def _seats(key: str, seats: object) -> dict[PriorityClass, int]:
    if not isinstance(seats, dict):
        raise InvalidReservation(f"routes.{key} must be an object of classes")
    reserved: dict[PriorityClass, int] = {}
    for name, count in seats.items():
        klass = BY_NAME.get(name)
        if klass is None:
            raise InvalidReservation(
                f"routes.{key}: unknown class {str(name)[:40]!r}, use Q1, Q2 or Q3"
            )
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_SEATS:
            raise InvalidReservation(
                f"routes.{key}.{name} must be a whole number from 0 to {MOST_SEATS}"
            )
        reserved[klass] = count
    return reserved
