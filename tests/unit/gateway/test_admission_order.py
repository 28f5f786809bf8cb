"""Order of admission, on a clock that the test moves."""

import pytest

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, ClassPolicy, PriorityClass
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.ticket import Rejection, Ticket, TicketState

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


def test_a_free_seat_is_assigned_at_once_to_one_request() -> None:
    queue = admission(seats=2)
    first, second, third = (offer(queue, Q3) for _ in range(3))
    assert [t.state for t in (first, second)] == [TicketState.RUNNING] * 2
    assert third.state is TicketState.QUEUED
    assert queue.start_next(0.0) is None
    assert queue.waiting == 1


def test_dispatch_is_by_class_then_first_come_first_served() -> None:
    queue = admission()
    running = offer(queue, Q3)
    arrived = [offer(queue, klass) for klass in (Q3, Q2, Q1, Q3, Q1, Q2)]
    served = []
    while (following := serve(queue, running, 1.0)) is not None:
        served.append(following)
        running = following
    assert served == [arrived[i] for i in (2, 4, 1, 5, 0, 3)]


def test_an_arrival_does_not_pass_queued_requests() -> None:
    queue = admission(seats=0)
    waiting = offer(queue, Q2)
    queue.pool.update({"pod-0:80": True}, 1)
    assert offer(queue, Q2).state is TicketState.QUEUED
    assert queue.start_next(0.0) is waiting


@pytest.mark.parametrize(("aged", "expected"), [(False, 0), (True, 10)])
def test_one_dispatch_in_ten_goes_to_an_aged_class(aged: bool, expected: int) -> None:
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


def test_two_aged_classes_share_the_overrides_and_the_more_urgent_gets_more() -> None:
    queue = admission()
    running = offer(queue, Q1)
    for klass in (Q1, Q2, Q3):
        for _ in range(100):
            queue._enqueue(Ticket(klass.name, klass, 0.0, FOREVER))
    served = []
    for _ in range(61):
        following = serve(queue, running, 200.0)
        assert following is not None
        served.append(following.klass)
        running = following
    assert [served.count(klass) for klass in (Q1, Q2, Q3)] == [55, 4, 2]


def test_an_override_also_serves_classes_more_urgent_than_the_aged_one() -> None:
    policies = tuple(ClassPolicy(1000, 1e6, age) for age in (5.0, 1e6, 1.0))  # only Q3 ever ages
    queue = admission(policies=policies)
    running = offer(queue, Q1)
    for klass in (Q1, Q2, Q3):
        for _ in range(100):
            offer(queue, klass)
    served = []
    for _ in range(60):
        following = serve(queue, running, 200.0)
        assert following is not None
        served.append(following.klass)
        running = following
    assert served.count(Q1) > served.count(Q2) > served.count(Q3) > 0


def bounded(*lengths: int) -> tuple[ClassPolicy, ...]:
    return tuple(ClassPolicy(length, 60.0, 5.0) for length in lengths)


def test_a_queue_of_length_zero_rejects_only_requests_that_cannot_start_now() -> None:
    policies = (ClassPolicy(0, 60.0, 5.0, 0.5), *DEFAULT_POLICIES[1:])
    queue = admission(seats=2, policies=policies)
    for now in (0.0, 0.1):  # arrivals of Q1 reserve seats for it
        queue.finish(offer(queue, Q1, now), now + 0.1)
    waiting = [offer(queue, Q3, 0.3) for _ in range(3)]
    assert TicketState.QUEUED in {ticket.state for ticket in waiting}
    free = sum(endpoint.seats - endpoint.in_flight for endpoint in queue.pool)
    assert free > 0  # reserved for Q1
    assert offer(queue, Q1, 0.4).state is TicketState.RUNNING
    refused = queue.offer("x", Q1, 0.5)  # both seats are taken now
    assert isinstance(refused, Rejection)


def test_a_full_queue_of_requests_that_cannot_use_a_free_seat_does_not_block_it() -> None:
    queue = admission(seats=1, pods=2, policies=bounded(1, 1, 1))
    first, second = offer(queue, Q2), offer(queue, Q2)
    assert first.endpoint is not None
    avoided = first.endpoint.address
    queue.retry(first, avoid=avoided, deadline=99.0)
    assert queue.start_next(0.0) is None
    assert offer(queue, Q2).state is TicketState.RUNNING
    assert isinstance(queue.offer("x", Q2, 0.0), Rejection)
    assert serve(queue, second, 1.0) is first


def test_a_queue_timeout_of_zero_suffices_when_a_seat_is_free() -> None:
    queue = admission(policies=tuple(ClassPolicy(4, 0.0, 5.0) for _ in range(3)))
    assert offer(queue, Q2).state is TicketState.RUNNING
    assert offer(queue, Q2).state is TicketState.QUEUED
    assert len(queue.expire(0.0)) == 1


def wide(queue: Admission[str], klass: PriorityClass, width: int, now: float = 0.0) -> Ticket[str]:
    ticket = queue.offer(klass.name, klass, now, width=width)
    assert isinstance(ticket, Ticket)
    return ticket


def test_a_wide_request_takes_and_frees_its_seats() -> None:
    queue = admission(seats=8)
    running = wide(queue, Q2, 5)
    assert [endpoint.in_flight for endpoint in queue.pool] == [5]
    assert queue.in_flight == [0, 1, 0]
    assert wide(queue, Q2, 3).state is TicketState.RUNNING
    waiting = offer(queue, Q2)
    assert waiting.state is TicketState.QUEUED
    assert serve(queue, running, 1.0) is waiting
    assert [endpoint.in_flight for endpoint in queue.pool] == [4]


def test_a_request_wider_than_a_pod_runs_alone_on_it() -> None:
    queue = admission(seats=4, pods=2)
    running = wide(queue, Q2, 64)
    assert sorted(endpoint.in_flight for endpoint in queue.pool) == [0, 4]
    queue.pool.update({"pod-0:80": True, "pod-1:80": True}, 8)
    queue.finish(running, 1.0)
    assert [endpoint.in_flight for endpoint in queue.pool] == [0, 0]


def test_one_pod_is_emptied_for_a_wide_request_and_the_others_serve_on() -> None:
    queue = admission(seats=4, pods=3)
    running = [offer(queue, Q2) for _ in range(12)]
    big = wide(queue, Q2, 4)
    small = [offer(queue, Q2) for _ in range(30)]
    started: list[Ticket[str]] = []
    idle = 0
    for number in range(40):
        queue.finish(running.pop(0), float(number))
        while (following := queue.start_next(float(number))) is not None:
            started.append(following)
            running.append(following)
        idle = max(idle, sum(4 - endpoint.in_flight for endpoint in queue.pool))
        if big in started:
            break
    assert big in started
    assert idle <= 4
    assert started.index(big) >= 1  # others went on meanwhile
    assert set(started) <= {big, *small}


@pytest.mark.parametrize("urgent", [Q1, Q2])
def test_a_wide_request_of_the_least_urgent_class_starts_eventually(urgent: PriorityClass) -> None:
    queue = admission(seats=4)
    running = [offer(queue, urgent) for _ in range(4)]
    big = wide(queue, Q3, 4)
    now = 0.0
    while big.state is TicketState.QUEUED:
        now += 1.0
        assert now < 400
        offer(queue, urgent, now)
        if running:
            queue.finish(running.pop(0), now)
        while (following := queue.start_next(now)) is not None:
            running.append(following)
    assert now >= DEFAULT_POLICIES[Q3].age_after_seconds


def test_a_more_urgent_request_uses_the_pod_that_is_emptied() -> None:
    queue = admission(seats=2)
    first, second = offer(queue, Q3), offer(queue, Q3)
    big = wide(queue, Q3, 2)
    assert queue.start_next(0.0) is None
    queue.finish(first, 1.0)
    assert queue.start_next(1.0) is None
    assert offer(queue, Q3, 1.0).state is TicketState.QUEUED
    urgent = offer(queue, Q1, 1.0)
    assert queue.start_next(1.0) is urgent
    queue.finish(second, 2.0)
    assert serve(queue, urgent, 2.0) is big


def test_a_wide_request_whose_client_left_blocks_no_pod() -> None:
    queue = admission(seats=2)
    first = offer(queue, Q3)
    big = wide(queue, Q3, 2)
    assert queue.start_next(0.0) is None
    emptied = queue.pool.emptying
    assert emptied is first.endpoint
    queue.finish(big, 1.0)
    assert queue.pool.choose(1.0) is emptied
    assert offer(queue, Q3, 1.0).state is TicketState.RUNNING


def test_seats_of_a_paused_pod_are_not_reserved() -> None:
    policies = (ClassPolicy(100, 60.0, 5.0, 0.01), *DEFAULT_POLICIES[1:])
    queue = admission(seats=4, pods=2, policies=policies)
    now = 0.0
    for _ in range(200):  # Q1 asks for more than it can get: half of the pool is reserved
        now += 0.01
        queue.finish(offer(queue, Q1, now), now + 1.0)
    assert queue.reserved_against(Q2, now) == (4, 0)
    queue.pool.failed(next(iter(queue.pool)), now, unreachable=True)
    assert queue.reserved_against(Q2, now) == (2, 0)
    assert offer(queue, Q2, now).state is TicketState.RUNNING


def test_a_full_queue_rejects_its_own_class_only() -> None:
    policies = (DEFAULT_POLICIES[0], ClassPolicy(2, 60.0, 5.0), DEFAULT_POLICIES[2])
    queue = admission(policies=policies)
    offer(queue, Q1)
    offer(queue, Q2)
    offer(queue, Q2)
    refused = queue.offer("x", Q2, 0.0)
    assert isinstance(refused, Rejection)
    assert refused.reason == "QueueFull"
    assert "2 of 2 requests are queued" in refused.message
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


def test_an_expired_request_never_starts() -> None:
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


def test_the_client_timeout_cannot_exceed_the_class_timeout() -> None:
    queue = admission(seats=0)
    ticket = queue.offer("x", Q1, 10.0, 1e6)
    assert isinstance(ticket, Ticket)
    assert ticket.deadline == 10.0 + DEFAULT_POLICIES[Q1].max_queue_seconds


def test_finishing_a_request_twice_changes_nothing() -> None:
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


def test_ended_requests_use_no_memory() -> None:
    queue = admission()
    offer(queue, Q1)
    for n in range(5000):
        queue.finish(offer(queue, Q3, n / 1000), n / 1000)
    assert len(queue._deadlines) < 200


def test_oldest_wait_is_that_of_the_head_of_queue() -> None:
    queue = admission()
    offer(queue, Q1, 1.0)
    assert queue.oldest_wait(Q2, 5.0) == 0.0
    offer(queue, Q2, 2.0)
    offer(queue, Q2, 3.0)
    assert queue.oldest_wait(Q2, 5.0) == 3.0
    assert [t.klass for t in queue.drain()] == [Q2, Q2]
    assert queue.waiting == 0
