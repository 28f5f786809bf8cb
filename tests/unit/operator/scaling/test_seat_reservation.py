"""Seat reservations of a decision: size, cause and message."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, PriorityClass
from r1_common.contracts.unavailable import Unavailable
from r1_gateway.admission.seat_reservation import SeatReservation
from r1_operator.api.scaling import ClassName
from r1_operator.plan.scaling.seat_reservation import (
    ClassReservation,
    ReservationInput,
    ReservationReason,
    plan_seat_reservation,
    reservation_of,
)
from r1_operator.plan.signals.class_arrivals import ClassArrivals

Q1, Q2, Q3 = ClassName
LOAD = ClassArrivals(arrivals={Q1: 0.5, Q2: 1.0, Q3: 9.0}, seat_seconds=20.0, seats=64, gateways=1)
PROMISES = {Q1: 0.5, Q2: 2.0, Q3: 30.0}


def situation(
    class_arrivals: ClassArrivals = LOAD, ready: int = 8, replicas: int = 8
) -> ReservationInput:
    return ReservationInput(class_arrivals, PROMISES, ready, replicas)


def by_name(held: tuple[ClassReservation, ...]) -> dict[ClassName, ClassReservation]:
    return {one.name: one for one in held}


def test_the_second_class_reservation_includes_the_first() -> None:
    held = by_name(plan_seat_reservation(situation()))
    assert set(held) == {Q1, Q2}, "nobody is below the third"
    assert 0 < held[Q1].seats <= held[Q2].seats <= 32
    assert held[Q1].reason is ReservationReason.ARRIVALS
    assert "of 64 seats are reserved for Q1 (TTFT target 500 ms)" in held[Q1].message
    assert "Q1 requests arrive at 0.5 per second" in held[Q1].message


def test_no_seats_are_reserved_without_urgent_arrivals_or_slo_targets() -> None:
    calm = replace(LOAD, arrivals={Q1: 0.0, Q2: 0.0, Q3: 50.0})
    assert [one.seats for one in plan_seat_reservation(situation(calm))] == [0, 0]
    assert plan_seat_reservation(ReservationInput(LOAD, {}, 8, 8)) == ()


def test_a_scale_down_reserves_its_seats_in_advance() -> None:
    steady = by_name(plan_seat_reservation(situation()))
    falling = by_name(plan_seat_reservation(situation(replicas=4)))
    left = by_name(plan_seat_reservation(situation(replace(LOAD, seats=32), 4, 4)))
    assert falling[Q1].seats == left[Q1].seats > steady[Q1].seats
    assert falling[Q1].reason is ReservationReason.PENDING_SCALE_DOWN
    assert "about to remove 32 seats" in falling[Q1].message


def test_replicas_that_are_about_to_come_count_when_they_are_there() -> None:
    assert plan_seat_reservation(situation(replicas=20)) == plan_seat_reservation(situation())


def test_every_gateway_keeps_its_own_share() -> None:
    shared = by_name(plan_seat_reservation(situation(replace(LOAD, gateways=4))))
    assert shared[Q1].seats == 4 * shared[Q1].per_gateway
    assert shared[Q1].seats > by_name(plan_seat_reservation(situation()))[Q1].seats, (
        "none lends a seat"
    )
    assert "4 gateways share the seats" in shared[Q1].message


def test_unknown_arrivals_are_reported_and_not_counted_as_zero() -> None:
    blind = Unavailable("ClassesUnknown", "1 of 2 gateways does not tell.")
    assert reservation_of(blind, PROMISES, 8, 8) is blind
    assert reservation_of(None, PROMISES, 8, 8) is None


@pytest.mark.parametrize("seats", [2, 8, 64, 500])
@pytest.mark.parametrize("held", [0.5, 5.0, 60.0])
@pytest.mark.parametrize("per_second", [0.1, 2.0, 20.0])
def test_gateway_and_operator_reserve_the_same_on_the_same_load(
    seats: int, held: float, per_second: float
) -> None:
    promise = 0.5
    first = replace(DEFAULT_POLICIES[0], time_to_first_token_seconds=promise)
    gateway = SeatReservation((first, *DEFAULT_POLICIES[1:]))
    gateway.released(held)
    for n in range(int(300 * per_second)):
        gateway.arrived(PriorityClass.Q1, n / per_second)
    now = (int(300 * per_second) - 1) / per_second
    rate = gateway._rate(PriorityClass.Q1, now)
    theirs = gateway.reserved_against(PriorityClass.Q2, seats, now)
    arrivals = ClassArrivals({Q1: rate}, held, seats, 1)
    ours = by_name(plan_seat_reservation(ReservationInput(arrivals, {Q1: promise}, 1, 1)))
    assert theirs == ours[Q1].per_gateway


FIGURES = st.floats(0, 1e6, allow_nan=False)


@given(
    arrivals=st.lists(FIGURES, min_size=3, max_size=3),
    held=st.none() | st.floats(0, 1e5),
    seats=st.integers(0, 100_000),
    gateways=st.integers(1, 20),
    slo_targets=st.lists(st.floats(0.001, 1e5), min_size=3, max_size=3),
    ready=st.integers(0, 200),
    replicas=st.integers(0, 200),
)
def test_never_more_than_half_and_never_less_for_the_second_class(
    arrivals: list[float],
    held: float | None,
    seats: int,
    gateways: int,
    slo_targets: list[float],
    ready: int,
    replicas: int,
) -> None:
    class_arrivals = ClassArrivals(
        dict(zip(ClassName, arrivals, strict=True)), held, seats, gateways
    )
    promised = dict(zip(ClassName, slo_targets, strict=True))
    first, second = plan_seat_reservation(
        ReservationInput(class_arrivals, promised, ready, replicas)
    )
    for one in (first, second):
        assert 0 <= one.seats == one.per_gateway * gateways
        assert one.per_gateway <= seats // gateways // 2
        assert one.message.endswith(".")
    steady = plan_seat_reservation(
        ReservationInput(class_arrivals, promised, ready, max(ready, replicas))
    )
    assert first.seats >= steady[0].seats, "a fall never frees what is kept"
