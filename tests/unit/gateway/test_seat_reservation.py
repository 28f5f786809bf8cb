"""Seats reserved for classes with an SLO target, on a clock that the test moves."""

from dataclasses import replace

import pytest

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, PriorityClass
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.seat_reservation import SeatReservation
from r1_gateway.admission.ticket import Ticket, TicketState

Q1, Q2, Q3 = PriorityClass
WITH_TARGET = (
    replace(DEFAULT_POLICIES[Q1], time_to_first_token_seconds=1.0),
    *DEFAULT_POLICIES[1:],
)


def admission(seats: int, policies: tuple[object, ...] = WITH_TARGET) -> Admission[str]:
    pool = EndpointPool()
    pool.update({"pod:80": True}, seats)
    return Admission(policies, pool)  # type: ignore[arg-type]


def offer(queue: Admission[str], klass: PriorityClass, now: float) -> Ticket[str]:
    ticket = queue.offer(klass.name, klass, now)
    assert isinstance(ticket, Ticket)
    return ticket


def urgent_traffic(queue: Admission[str], per_second: float, until: float) -> None:
    """Q1 requests that take two seconds, one after the other as the clock counts them."""
    running: list[Ticket[str]] = []
    for n in range(int(per_second * until)):
        now = n / per_second
        running.append(offer(queue, Q1, now))
        while running and now - running[0].arrived >= 2.0:
            queue.finish(running.pop(0), now)
    for ticket in running:
        queue.finish(ticket, ticket.arrived + 2.0)


def test_batch_requests_use_all_seats_without_urgent_arrivals() -> None:
    queue = admission(8)
    assert [offer(queue, Q3, 0.0).state for _ in range(8)] == [TicketState.RUNNING] * 8


def test_seats_are_reserved_for_a_class_with_recent_arrivals() -> None:
    queue = admission(8)
    urgent_traffic(queue, 1.0, 60.0)
    states = [offer(queue, Q3, 63.0).state for _ in range(8)]
    running = states.count(TicketState.RUNNING)
    assert 4 <= running < 8
    urgent = offer(queue, Q1, 63.0)
    assert queue.start_next(63.0) is urgent


def test_the_reservation_falls_to_zero_after_urgent_traffic_stops() -> None:
    queue = admission(8)
    urgent_traffic(queue, 1.0, 60.0)
    batch = [offer(queue, Q3, 63.0) for _ in range(8)]
    assert any(ticket.state is TicketState.QUEUED for ticket in batch)
    assert queue.start_next(63.0) is None
    while queue.start_next(63.0 + 600.0) is not None:
        pass
    assert queue.in_flight[Q3] == 8


def test_without_an_slo_target_no_seat_is_reserved() -> None:
    queue = admission(4, DEFAULT_POLICIES)
    urgent_traffic(queue, 2.0, 60.0)
    assert [offer(queue, Q3, 60.0).state for _ in range(4)] == [TicketState.RUNNING] * 4


def test_no_less_urgent_request_passes_a_class_that_waits_for_reserved_seats() -> None:
    queue = admission(4)
    urgent_traffic(queue, 1.0, 60.0)
    running = [offer(queue, Q2, 63.0) for _ in range(4)]
    assert running[-1].state is TicketState.QUEUED
    assert offer(queue, Q3, 63.0).state is TicketState.QUEUED
    assert queue.start_next(63.0) is None


def test_an_slo_target_applies_to_a_running_gateway() -> None:
    queue = admission(4, DEFAULT_POLICIES)
    queue.policies = WITH_TARGET
    urgent_traffic(queue, 1.0, 60.0)
    states = [offer(queue, Q3, 63.0).state for _ in range(4)]
    assert TicketState.QUEUED in states


@pytest.mark.parametrize("seats", [0, 1, 2, 9, 64])
def test_at_most_half_of_the_pool_is_reserved(seats: int) -> None:
    reservation = SeatReservation(WITH_TARGET)
    reservation.released(100.0)
    for n in range(10_000):
        reservation.arrived(Q1, n / 1000)
    assert reservation.reserved_against(Q3, seats, 10.0) == seats // 2


def test_a_pool_that_frees_seats_fast_reserves_none() -> None:
    reserves = []
    for seconds in (30.0, 10.0, 3.0, 0.1):
        reservation = SeatReservation(WITH_TARGET)
        reservation.released(seconds)
        for n in range(1200):
            reservation.arrived(Q1, n / 10)
        reserves.append(reservation.reserved_against(Q3, 200, 120.0))
        assert reservation.reserved_against(Q1, 200, 120.0) == 0
    assert reserves == sorted(reserves, reverse=True)
    assert reserves[0] == 100  # urgent requests alone come faster than 200 seats of 30 s are freed
    assert reserves[-1] == 0


def test_one_seat_is_reserved_before_the_first_request_has_ended() -> None:
    reservation = SeatReservation(WITH_TARGET)
    for n in range(30):
        reservation.arrived(Q1, float(n))
    assert reservation.reserved_against(Q2, 8, 30.0) == 1


def test_requests_on_a_draining_pod_block_no_other_pod() -> None:
    pool = EndpointPool()
    pool.update({"old:80": True}, 8)
    queue: Admission[str] = Admission(WITH_TARGET, pool)
    running = [offer(queue, Q3, 0.0) for _ in range(8)]
    pool.update({"old:80": False, "new:80": True}, 8)
    waiting = offer(queue, Q3, 1.0)
    assert [ticket.state for ticket in running] == [TicketState.RUNNING] * 8
    assert waiting.state is TicketState.RUNNING
    assert waiting.endpoint is not None
    assert waiting.endpoint.address == "new:80"


def fill(queue: Admission[str], klass: PriorityClass, now: float) -> int:
    """Offer more than there are seats; how many of them run."""
    seats = queue.pool.seats
    offered = [offer(queue, klass, now) for _ in range(seats)]
    return sum(ticket.state is TicketState.RUNNING for ticket in offered)


def test_seats_reserved_by_the_operator_stay_free_before_urgent_arrivals() -> None:
    queue = admission(8)
    queue.reserve_seats({Q1: 3}, until=10.0)
    assert fill(queue, Q3, 5.0) == 5
    assert queue.reserved_against(Q3, 5.0) == (3, 3)
    urgent = offer(queue, Q1, 5.0)
    assert queue.start_next(5.0) is urgent


def test_a_reservation_of_the_operator_expires() -> None:
    queue = admission(8)
    queue.reserve_seats({Q1: 3}, until=10.0)
    assert fill(queue, Q3, 10.0) == 8
    assert queue.reserved_against(Q3, 10.0) == (0, 0)


def test_a_newer_reservation_replaces_the_earlier_one() -> None:
    queue = admission(8)
    queue.reserve_seats({Q1: 3}, until=10.0)
    queue.reserve_seats({}, until=12.0)
    assert fill(queue, Q3, 5.0) == 8


def test_the_operator_reserves_at_most_half_of_the_pool() -> None:
    queue = admission(8)
    queue.reserve_seats({Q1: 1000}, until=10.0)
    assert fill(queue, Q3, 5.0) == 4


def test_the_larger_of_gateway_and_operator_reservation_applies() -> None:
    queue = admission(8)
    urgent_traffic(queue, 1.0, 60.0)
    own, _ = queue.reserved_against(Q3, 63.0)
    queue.reserve_seats({Q1: 1}, until=100.0)
    assert own > 1
    assert queue.reserved_against(Q3, 63.0) == (own, 1)


def test_a_reservation_for_a_class_without_slo_target_has_no_effect() -> None:
    queue = admission(8)
    queue.reserve_seats({Q2: 3}, until=10.0)
    assert fill(queue, Q3, 5.0) == 8
