"""Clients that obey Retry-After, on a simulated clock."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from r1_common.contracts.priority_classes import ClassPolicy, PriorityClass
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.drain_rate import FIRST_GUESS_SECONDS, DrainRate
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.reserved_returns import (
    GRACE_SECONDS,
    LONGEST_SECONDS,
    UNMATCHED_SECONDS,
    ReservedReturn,
    ReservedReturns,
)
from r1_gateway.admission.ticket import Rejection, Ticket

Q1, Q2, Q3 = PriorityClass
ROUND_TRIP = 0.002


@dataclass
class Client:
    klass: PriorityClass
    reserved_return: ReservedReturn | None = None
    refused: bool = False


@dataclass
class Play:
    """Clients in a closed loop: send, wait for the answer or for Retry-After, send again."""

    clients: list[Client]
    seats: int = 20
    bound: int = 64
    service: Callable[[], float] = lambda: 0.5
    shared_connections: bool = False
    think: Callable[[], float] = lambda: ROUND_TRIP
    returns: int = 0
    admitted: int = 0
    completed: int = 0
    announced: list[int] = field(default_factory=list)

    def run(self, seconds: float, warm_up: float = 0.0) -> "Play":
        pool = EndpointPool()
        pool.update({"pod": True}, self.seats)
        admission: Admission[Client] = Admission([ClassPolicy(self.bound, 1e6, 1e6)] * 3, pool)
        order = itertools.count()
        events: list[tuple[float, int, Client, Ticket[Client] | None]] = []
        for client in self.clients:
            heapq.heappush(events, (random.random() * 0.01, next(order), client, None))

        def start(ticket: Ticket[Client], now: float) -> None:
            heapq.heappush(events, (now + self.service(), next(order), ticket.item, ticket))

        while events:
            now, _, client, ticket = heapq.heappop(events)
            if now > seconds:
                break
            counts = now >= warm_up
            if ticket is not None:
                admission.finish(ticket, now)
                self.completed += counts
                while (started := admission.start_next(now)) is not None:
                    start(started, now)
                heapq.heappush(events, (now + self.think(), next(order), client, None))
                continue
            reserved_return, client.reserved_return = client.reserved_return, None
            outcome = admission.offer(client, client.klass, now, reserved_return=reserved_return)
            if client.refused and counts:
                self.returns += 1
                self.admitted += not isinstance(outcome, Rejection)
            client.refused = isinstance(outcome, Rejection)
            if isinstance(outcome, Rejection):
                if counts:
                    self.announced.append(outcome.retry_after_seconds)
                client.reserved_return = outcome.reserved_return
                if self.shared_connections and client.reserved_return is not None:
                    client.reserved_return.detach()
                    client.reserved_return = None
                again = now + outcome.retry_after_seconds + ROUND_TRIP * random.random()
                heapq.heappush(events, (again, next(order), client, None))
            elif outcome.endpoint is not None:
                start(outcome, now)
            else:
                while (started := admission.start_next(now)) is not None:
                    start(started, now)
        return self


@pytest.fixture(autouse=True)
def _same_every_time() -> None:
    random.seed(7)


SERVICES: dict[str, Callable[[], float]] = {
    "constant": lambda: 0.501 + random.uniform(0.0, 0.004),
    "spread": lambda: random.uniform(0.25, 0.75),
    "exponential": lambda: random.expovariate(2.0),
}


@pytest.mark.parametrize(
    ("service", "shared", "share"),
    [
        *((service, False, 0.95) for service in SERVICES),
        ("spread", True, 0.9),
        ("exponential", True, 0.9),
        # A new request that comes in the same millisecond as a return is indistinguishable from it.
        ("constant", True, 0.8),
    ],
)
def test_clients_that_obey_retry_after_are_admitted_on_return(
    service: str, shared: bool, share: float
) -> None:
    clients = [Client(Q2) for _ in range(150)]
    play = Play(clients, service=SERVICES[service], shared_connections=shared).run(120.0)
    assert play.returns > 500
    assert play.admitted >= share * play.returns
    assert play.completed >= 0.98 * 40 * 120 - 20
    assert sum(play.announced) / len(play.announced) < 4.0  # 66 wait outside, 40 a second get on


@pytest.mark.parametrize(
    ("count", "seats", "seconds", "bound"),
    [
        (150, 20, 0.5, 64),
        (400, 20, 0.5, 64),
        (60, 4, 2.0, 16),
        (1000, 100, 1.0, 256),
        (40, 8, 5.0, 8),
        (100, 2, 0.05, 16),
    ],
)
def test_returning_clients_are_admitted_at_any_pool_size(
    count: int, seats: int, seconds: float, bound: int
) -> None:
    clients = [Client(Q2) for _ in range(count)]
    long = max(240.0 * seconds, 60.0)
    play = Play(clients, seats, bound, lambda: seconds * random.uniform(0.7, 1.3))
    play.run(long, long / 4)
    assert play.returns > 100
    assert play.admitted >= 0.9 * play.returns
    assert play.completed >= 0.95 * seats / seconds * long * 0.75


def test_drain_rate_of_a_class_excludes_more_urgent_starts() -> None:
    clients = [Client(Q1) for _ in range(14)] + [Client(Q2) for _ in range(60)]
    play = Play(clients, bound=16, think=lambda: 0.1).run(120.0, 30.0)  # Q1 keeps 12 seats busy
    assert play.returns > 100
    assert play.admitted >= 0.9 * play.returns


def test_clients_that_never_return_cost_half_of_a_queue_for_a_second() -> None:
    pool = EndpointPool()
    pool.update({"pod": True}, 1)
    admission: Admission[int] = Admission([ClassPolicy(8, 1e6, 1e6)] * 3, pool)
    running = admission.offer(0, Q2, 0.0)
    assert isinstance(running, Ticket)
    admission.finish(running, 0.1)
    outcomes = [admission.offer(0, Q2, 0.1) for _ in range(60)]
    assert sum(isinstance(outcome, Ticket) for outcome in outcomes) == 9
    last = max(o.retry_after_seconds for o in outcomes if isinstance(o, Rejection))
    assert 12 <= last <= 14  # 51 returns, four at a time
    running = next(o for o in outcomes if isinstance(o, Ticket) and o.endpoint)
    for _ in range(6):
        admission.finish(running, 0.2)
        started = admission.start_next(0.2)
        assert started is not None
        running = started
    assert admission.queued(Q2) == 2
    assert isinstance(admission.offer(0, Q2, 0.9), Ticket)
    assert isinstance(admission.offer(0, Q2, 0.9), Ticket)
    assert isinstance(admission.offer(0, Q2, 0.9), Rejection)
    late = 1.1 + last + GRACE_SECONDS + 1.0
    while isinstance(admission.offer(0, Q2, late), Ticket):
        pass
    assert admission.queued(Q2) == 8


def test_drain_rate_is_unbiased_from_the_first_request() -> None:
    rate = DrainRate()
    assert rate.per_second(Q1, 20, 0.0) == 20 / FIRST_GUESS_SECONDS
    for number in range(20):
        rate.started(Q1, 0.001 * number)
    rate.freed(0.5, 0.5)
    assert rate.per_second(Q1, 20, 0.5) == pytest.approx(40.0)
    for _ in range(19):
        rate.freed(0.5, 0.52)
    rate.idle = True
    assert rate.per_second(Q1, 20, 1000.0) == pytest.approx(40.0)  # an idle time changes nothing


def test_drain_rate_falls_while_no_seat_is_freed() -> None:
    rate = DrainRate()
    for _ in range(20):
        rate.started(Q1, 0.0)
    rate.freed(0.5, 0.5)
    assert rate.per_second(Q1, 20, 100.5) == pytest.approx(20 / 100.0)


def test_drain_rate_is_zero_without_seats() -> None:
    assert DrainRate().per_second(Q1, 0, 1.0) == 0.0
    assert ReservedReturns().reserve(1.0, 0.0, 0.5, 100) == (LONGEST_SECONDS, None)


def test_each_rejected_client_gets_its_own_place() -> None:
    returns = ReservedReturns()
    made = [returns.reserve(100.0, 10.0, 0.5, 100) for _ in range(1000)]
    seconds = [after for after, _ in made]
    assert seconds == sorted(seconds)
    assert seconds[0] == 1
    assert max(seconds) == LONGEST_SECONDS
    assert all(seconds.count(after) <= 9 for after in range(1, 60))
    places = sum(reserved_return is not None for _, reserved_return in made)
    assert places == pytest.approx(540, abs=1)  # nine a second for a minute


def test_no_more_clients_return_together_than_places_may_be_reserved() -> None:
    returns = ReservedReturns()
    seconds = [returns.reserve(100.0, 1000.0, 0.5, 8)[0] for _ in range(30)]
    assert [seconds.count(after) for after in range(1, 5)] == [8, 8, 8, 6]


def test_a_reserved_return_is_claimed_once_when_due_by_its_connection() -> None:
    returns = ReservedReturns()
    after, mine = returns.reserve(100.0, 10.0, 0.5, 100)
    assert mine is not None
    assert not returns.claim(None, 100.0 + after)  # it belongs to a connection
    assert returns.claim(mine, 100.0 + after)
    assert not returns.claim(mine, 100.0 + after)
    assert not returns.open


def test_a_detached_reserved_return_can_be_claimed_by_any_connection() -> None:
    for closed in (False, True):
        returns = ReservedReturns()
        after, mine = returns.reserve(100.0, 10.0, 0.5, 100)
        assert mine is not None
        if closed:
            mine.detach()
        else:
            assert not returns.claim(mine, 100.1)
        assert not returns.claim(None, 100.9)  # not due yet
        assert returns.claim(None, 100.0 + after)
        assert not returns.claim(None, 100.0 + after)


def test_a_detached_reserved_return_prefers_the_same_request() -> None:
    returns = ReservedReturns()
    reserved_returns = [returns.reserve(100.0, 10.0, 0.5, 100, identity) for identity in (1, 2)]
    for _, each in reserved_returns:
        assert each is not None
        each.detach()
    due = 100.0 + reserved_returns[0][0]
    assert not returns.claim(None, due, 3)
    assert returns.claim(None, due, 2)
    assert not returns.claim(None, due, 2)
    assert returns.claim(None, due + UNMATCHED_SECONDS, 3)
    assert not returns.claim(None, due + UNMATCHED_SECONDS, 1)


def test_clients_that_change_their_requests_are_recognised_by_the_time_of_their_return() -> None:
    returns = ReservedReturns()
    now = 100.0
    for identity in range(100):
        after, mine = returns.reserve(now, 10.0, 0.5, 100, identity)
        assert mine is not None
        mine.detach()
        now += after + UNMATCHED_SECONDS
        assert returns.claim(None, now, -1)
    after, mine = returns.reserve(now, 10.0, 0.5, 100, 1)
    assert mine is not None
    mine.detach()
    assert returns.claim(None, now + after + 0.01, 2)


def test_expired_reserved_returns_use_no_memory() -> None:
    returns = ReservedReturns()
    now = 100.0
    for identity in range(2000):
        now += 0.1
        _, mine = returns.reserve(now, 10.0, 0.5, 100, identity)
        if mine is not None:
            mine.detach()
        returns.claim(None, now, -1)
    assert len(returns._detached) < 300
    assert len(returns._by_identity) < 600


def test_a_reserved_return_of_another_queue_is_not_claimed() -> None:
    returns, other = ReservedReturns(), ReservedReturns()
    after, reserved_return = other.reserve(100.0, 10.0, 0.5, 100)
    assert not returns.claim(reserved_return, 100.0 + after)
    assert other.claim(None, 100.0 + after)


def test_a_reserved_return_expires_after_its_grace_time() -> None:
    returns = ReservedReturns()
    after, mine = returns.reserve(100.0, 10.0, 0.5, 100)
    due = 100.0 + after
    assert returns.reserved_places(due, 10.0, 0.5) == 1
    late = due + GRACE_SECONDS + 0.2
    assert returns.reserved_places(late, 10.0, 0.5) == 0
    assert not returns.claim(mine, late)
