"""Who gets the next seat, told with a clock that only the test moves."""

import pytest

from r1_gateway.admission import Admission, Refusal, Ticket, TicketState
from r1_gateway.classes import DEFAULT_POLICIES, ClassPolicy, PriorityClass
from r1_gateway.routing import EndpointPool

Q1, Q2, Q3 = PriorityClass
FOREVER = 1e9


def admission(
    seats: int = 1, pods: int = 1, policies: tuple[ClassPolicy, ...] = DEFAULT_POLICIES
) -> Admission[str]:
    pool = EndpointPool()
    pool.update({f"pod-{n}:80": True for n in range(pods)}, seats)
    return Admission(policies, pool)


def offer(queue: Admission[str], klass: PriorityClass, now: float = 0.0) -> Ticket[str]:
    ticket = queue.offer(klass.name, klass, now)
    assert isinstance(ticket, Ticket)
    return ticket


def serve(queue: Admission[str], running: Ticket[str], now: float) -> Ticket[str] | None:
    """End a request; whoever starts in its place."""
    queue.finish(running, now)
    return queue.start_next(now)


def test_a_free_seat_is_given_at_once_and_never_two_to_one() -> None:
    queue = admission(seats=2)
    first, second, third = (offer(queue, Q3) for _ in range(3))
    assert [t.state for t in (first, second)] == [TicketState.RUNNING] * 2
    assert third.state is TicketState.QUEUED
    assert queue.start_next(0.0) is None
    assert queue.waiting == 1


def test_urgent_first_and_first_come_first_served_inside_a_class() -> None:
    queue = admission()
    running = offer(queue, Q3)
    arrived = [offer(queue, klass) for klass in (Q3, Q2, Q1, Q3, Q1, Q2)]
    served = []
    while (following := serve(queue, running, 1.0)) is not None:
        served.append(following)
        running = following
    assert served == [arrived[i] for i in (2, 4, 1, 5, 0, 3)]


def test_an_arrival_cannot_pass_those_who_wait_even_when_a_seat_is_free() -> None:
    queue = admission(seats=0)
    waiting = offer(queue, Q2)
    queue.pool.update({"pod-0:80": True}, 1)
    assert offer(queue, Q2).state is TicketState.QUEUED
    assert queue.start_next(0.0) is waiting


@pytest.mark.parametrize(("aged", "expected"), [(False, 0), (True, 10)])
def test_the_aged_pass_in_front_once_in_ten(aged: bool, expected: int) -> None:
    queue = admission()
    running = offer(queue, Q1)
    now = 0.0
    for _ in range(50):
        offer(queue, Q3, now)
    now = DEFAULT_POLICIES[Q3].age_after_seconds + (1 if aged else -1)
    served = []
    for _ in range(100):
        offer(queue, Q1, now)
        following = serve(queue, running, now)
        assert following is not None
        served.append(following.klass)
        running = following
    assert served.count(Q3) == expected
    for start in range(90):
        assert served[start : start + 10].count(Q3) <= 1


def test_the_least_urgent_of_the_aged_goes_first() -> None:
    queue = admission()
    running = offer(queue, Q1)
    for klass in (Q2, Q3, Q1, *[Q1] * 20):
        offer(queue, klass)
    order = []
    for _ in range(21):
        following = serve(queue, running, 200.0)
        assert following is not None
        order.append(following.klass)
        running = following
    assert order.index(Q3) < order.index(Q2)


def test_a_full_queue_refuses_its_own_class_only() -> None:
    policies = (DEFAULT_POLICIES[0], ClassPolicy(2, 60.0, 5.0), DEFAULT_POLICIES[2])
    queue = admission(policies=policies)
    offer(queue, Q1)
    offer(queue, Q2)
    offer(queue, Q2)
    refused = queue.offer("x", Q2, 0.0)
    assert isinstance(refused, Refusal)
    assert refused.reason == "QueueFull"
    assert "2 waiting" in refused.message
    assert offer(queue, Q1).state is TicketState.QUEUED
    assert offer(queue, Q3).state is TicketState.QUEUED
    assert queue.waiting == 4


def test_retry_after_is_the_queue_ahead_over_the_rate_at_which_it_drains() -> None:
    queue = admission()
    running = offer(queue, Q1)
    for _ in range(256):
        offer(queue, Q1)
    assert queue.retry_after(Q1, 0.0) == 60.0  # nothing has drained yet
    now = 0.0
    for _ in range(200):  # ten a second
        now += 0.1
        following = serve(queue, running, now)
        assert following is not None
        running = following
    left = queue.queued(Q1)
    assert queue.retry_after(Q1, now) == pytest.approx(left / 10, rel=0.25)
    assert queue.retry_after(Q1, now + 1000) == 60.0
    while (following := serve(queue, running, now)) is not None:
        running = following
    assert queue.retry_after(Q1, now) == 1.0


def test_who_waited_too_long_leaves_and_never_starts() -> None:
    queue = admission()
    running = offer(queue, Q1)
    patient = offer(queue, Q2)
    hasty = queue.offer("hasty", Q2, 0.0, 5.0)
    assert queue.next_event(0.0) == 5.0
    assert queue.expire(4.999) == []
    assert queue.expire(5.0) == [hasty]
    assert queue.next_event(5.0) == DEFAULT_POLICIES[Q2].max_queue_seconds
    assert serve(queue, running, 6.0) is patient
    assert queue.expire(FOREVER) == []
    assert queue.next_event(6.0) is None


def test_the_clients_patience_cannot_exceed_the_classs() -> None:
    queue = admission(seats=0)
    ticket = queue.offer("x", Q1, 10.0, 1e6)
    assert isinstance(ticket, Ticket)
    assert ticket.deadline == 10.0 + DEFAULT_POLICIES[Q1].max_queue_seconds


def test_leaving_twice_changes_nothing() -> None:
    queue = admission()
    running, waiting = offer(queue, Q1), offer(queue, Q1)
    assert queue.finish(waiting, 1.0)
    assert not queue.finish(waiting, 1.0)
    assert queue.finish(running, 1.0)
    assert not queue.finish(running, 1.0)
    assert queue.in_flight == [0, 0, 0]
    assert queue.waiting == 0
    assert [endpoint.in_flight for endpoint in queue.pool] == [0]


def test_a_retried_request_waits_in_front_for_another_pod() -> None:
    queue = admission(seats=1, pods=2)
    first, second = offer(queue, Q2), offer(queue, Q2)
    third = offer(queue, Q2)
    assert first.endpoint is not None
    bad = first.endpoint.address
    queue.retry(first, avoid=bad, deadline=99.0)
    assert queue.start_next(1.0) is third  # the only free seat is on the pod to avoid
    assert first.state is TicketState.QUEUED
    assert first.deadline == 99.0
    assert serve(queue, second, 2.0) is first
    assert first.endpoint.address != bad


def test_thousands_who_left_cost_no_memory() -> None:
    queue = admission()
    offer(queue, Q1)
    for n in range(5000):
        queue.finish(offer(queue, Q3, n / 1000), n / 1000)
    assert len(queue._deadlines) < 200


def test_oldest_wait() -> None:
    queue = admission()
    offer(queue, Q1, 1.0)
    assert queue.oldest_wait(Q2, 5.0) == 0.0
    offer(queue, Q2, 2.0)
    offer(queue, Q2, 3.0)
    assert queue.oldest_wait(Q2, 5.0) == 3.0
    assert [t.klass for t in queue.drain()] == [Q2, Q2]
    assert queue.waiting == 0
