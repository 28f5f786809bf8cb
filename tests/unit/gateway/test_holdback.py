"""Seats kept free for who was promised a short wait, told with a clock that only the test moves."""

from dataclasses import replace

import pytest

from r1_gateway.admission.admission_queue import Admission, Ticket, TicketState
from r1_gateway.admission.classes import DEFAULT_POLICIES, PriorityClass
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.seat_reservation import SeatReservation

Q1, Q2, Q3 = PriorityClass
PROMISED = (replace(DEFAULT_POLICIES[Q1], time_to_first_token_seconds=1.0), *DEFAULT_POLICIES[1:])


def admission(seats: int, policies: tuple[object, ...] = PROMISED) -> Admission[str]:
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


def test_batch_work_fills_the_pool_while_nobody_urgent_comes() -> None:
    queue = admission(8)
    assert [offer(queue, Q3, 0.0).state for _ in range(8)] == [TicketState.RUNNING] * 8


def test_with_urgent_traffic_some_seats_stay_free_for_it() -> None:
    queue = admission(8)
    urgent_traffic(queue, 1.0, 60.0)
    states = [offer(queue, Q3, 63.0).state for _ in range(8)]
    running = states.count(TicketState.RUNNING)
    assert 4 <= running < 8
    urgent = offer(queue, Q1, 63.0)
    assert queue.start_next(63.0) is urgent


def test_the_reserve_fades_when_urgent_traffic_stops() -> None:
    queue = admission(8)
    urgent_traffic(queue, 1.0, 60.0)
    held = [offer(queue, Q3, 63.0) for _ in range(8)]
    assert any(ticket.state is TicketState.QUEUED for ticket in held)
    assert queue.start_next(63.0) is None
    while queue.start_next(63.0 + 600.0) is not None:
        pass
    assert queue.in_flight[Q3] == 8


def test_without_a_promise_nothing_is_held_back() -> None:
    queue = admission(4, DEFAULT_POLICIES)
    urgent_traffic(queue, 2.0, 60.0)
    assert [offer(queue, Q3, 60.0).state for _ in range(4)] == [TicketState.RUNNING] * 4


def test_nobody_less_urgent_passes_a_class_that_is_held_back() -> None:
    queue = admission(4)
    urgent_traffic(queue, 1.0, 60.0)
    running = [offer(queue, Q2, 63.0) for _ in range(4)]
    assert running[-1].state is TicketState.QUEUED
    assert offer(queue, Q3, 63.0).state is TicketState.QUEUED
    assert queue.start_next(63.0) is None


def test_a_promise_given_to_a_running_gateway_counts_from_then_on() -> None:
    queue = admission(4, DEFAULT_POLICIES)
    queue.policies = PROMISED
    urgent_traffic(queue, 1.0, 60.0)
    states = [offer(queue, Q3, 63.0).state for _ in range(4)]
    assert TicketState.QUEUED in states


@pytest.mark.parametrize("seats", [0, 1, 2, 9, 64])
def test_half_of_the_pool_is_for_everybody(seats: int) -> None:
    holdback = SeatReservation(PROMISED)
    holdback.released(100.0)
    for n in range(10_000):
        holdback.arrived(Q1, n / 1000)
    assert holdback.reserve(Q3, seats, 10.0) == seats // 2


def test_a_pool_that_frees_seats_fast_keeps_none_back() -> None:
    reserves = []
    for held in (30.0, 10.0, 3.0, 0.1):
        holdback = SeatReservation(PROMISED)
        holdback.released(held)
        for n in range(1200):
            holdback.arrived(Q1, n / 10)
        reserves.append(holdback.reserve(Q3, 200, 120.0))
        assert holdback.reserve(Q1, 200, 120.0) == 0
    assert reserves == sorted(reserves, reverse=True)
    assert reserves[0] == 100  # urgent requests alone come faster than 200 seats of 30 s are freed
    assert reserves[-1] == 0


def test_before_anything_has_ended_one_seat_is_kept() -> None:
    holdback = SeatReservation(PROMISED)
    for n in range(30):
        holdback.arrived(Q1, float(n))
    assert holdback.reserve(Q2, 8, 30.0) == 1


def test_what_runs_on_a_pod_that_drains_holds_nobody_back_from_the_others() -> None:
    pool = EndpointPool()
    pool.update({"old:80": True}, 8)
    queue: Admission[str] = Admission(PROMISED, pool)
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


def test_seats_that_are_advised_stay_free_before_anybody_urgent_has_come() -> None:
    queue = admission(8)
    queue.advise({Q1: 3}, until=10.0)
    assert fill(queue, Q3, 5.0) == 5
    assert queue.held_back(Q3, 5.0) == (3, 3)
    urgent = offer(queue, Q1, 5.0)
    assert queue.start_next(5.0) is urgent


def test_advice_that_is_too_old_is_forgotten() -> None:
    queue = admission(8)
    queue.advise({Q1: 3}, until=10.0)
    assert fill(queue, Q3, 10.0) == 8
    assert queue.held_back(Q3, 10.0) == (0, 0)


def test_newer_advice_replaces_the_older_one() -> None:
    queue = admission(8)
    queue.advise({Q1: 3}, until=10.0)
    queue.advise({}, until=12.0)
    assert fill(queue, Q3, 5.0) == 8


def test_advice_never_takes_more_than_half_of_the_pool() -> None:
    queue = admission(8)
    queue.advise({Q1: 1000}, until=10.0)
    assert fill(queue, Q3, 5.0) == 4


def test_advice_does_not_lower_what_the_gateway_reckons_itself() -> None:
    queue = admission(8)
    urgent_traffic(queue, 1.0, 60.0)
    own, _ = queue.held_back(Q3, 63.0)
    queue.advise({Q1: 1}, until=100.0)
    assert own > 1
    assert queue.held_back(Q3, 63.0) == (own, 1)


def test_advice_for_a_class_without_a_promise_holds_nothing_back() -> None:
    queue = admission(8)
    queue.advise({Q2: 3}, until=10.0)
    assert fill(queue, Q3, 5.0) == 8
