"""Fair share over tenants: no idle seat, no starvation, equal shares, independent orders."""

import heapq
import itertools
import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.priority_classes import ClassPolicy, PriorityClass
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.fair_share_queue import FairShareQueue
from r1_gateway.admission.ticket import Ticket, TicketState
from r1_gateway.tenants.caller import Caller

Q2 = PriorityClass.Q2
NEVER = 1e9
TENANTS = ("a", "b", "c", "d")


def fair_admission(seats: int, *, limit: int = 100_000) -> Admission[int]:
    pool = EndpointPool()
    pool.update({"pod": True}, seats)
    return Admission([ClassPolicy(limit, NEVER, NEVER)] * 3, pool, FairShareQueue)


def jain(values: list[float]) -> float:
    """Jain's index: 1 for equal values, 1/n when one has all."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def served_tokens(
    tenants: dict[str, tuple[int, float, float]],
    *,
    seats: int,
    limit: int,
    seconds: float,
    wrong_by: float = 1.0,
) -> dict[str, float]:
    """Tokens of each tenant: name -> (closed-loop clients, tokens of a request, weight).

    A token takes 1 ms of a seat; the estimate at arrival is the real cost times ``wrong_by``.
    """
    admission = fair_admission(seats, limit=limit)
    order = random.Random(7)
    used: dict[str, float] = defaultdict(float)
    events: list[tuple[float, int, str, Ticket[int] | None]] = []
    number = itertools.count()
    callers = {name: Caller(name, weight=weight) for name, (_, _, weight) in tenants.items()}
    for name, (clients, _, _) in tenants.items():
        events += [(order.random() * 0.01, next(number), name, None) for _ in range(clients)]
    heapq.heapify(events)
    now = 0.0

    def later(seconds: float, name: str, ticket: Ticket[int] | None = None) -> None:
        heapq.heappush(events, (now + seconds, next(number), name, ticket))

    def start(ticket: Ticket[int]) -> None:
        name = ticket.caller.tenant
        took = tenants[name][1] * order.uniform(0.5, 1.5)
        ticket.item = int(took)
        later(took / 1000.0, name, ticket)

    while now < seconds:
        now, _, name, ended = heapq.heappop(events)
        if ended is not None:
            admission.finish(ended, now, float(ended.item))
            used[name] += ended.item
        outcome = admission.offer(
            0, Q2, now, caller=callers[name], cost=tenants[name][1] * wrong_by
        )
        for displaced in admission.displaced:
            later(0.05, displaced.caller.tenant)
        admission.displaced = []
        if not isinstance(outcome, Ticket):
            later(0.05, name)
        elif outcome.state is TicketState.RUNNING:
            start(outcome)
        while (started := admission.start_next(now)) is not None:
            start(started)
    return used


@pytest.mark.parametrize("limit", [16, 1000])
@pytest.mark.parametrize("wrong_by", [1.0, 10.0, 0.1])
def test_ten_times_the_load_of_one_tenant_leaves_equal_shares(limit: int, wrong_by: float) -> None:
    tenants = {f"t{n}": (4, 100.0, 1.0) for n in range(9)} | {"heavy": (40, 100.0, 1.0)}
    used = served_tokens(tenants, seats=8, limit=limit, seconds=30.0, wrong_by=wrong_by)
    assert jain(list(used.values())) >= 0.98, used


def test_shares_are_of_tokens_and_not_of_requests() -> None:
    tenants = {"long": (8, 800.0, 1.0), "short": (8, 50.0, 1.0)}
    used = served_tokens(tenants, seats=4, limit=1000, seconds=60.0)
    assert jain(list(used.values())) >= 0.98, used


def test_shares_follow_the_weights() -> None:
    tenants = {"one": (8, 100.0, 1.0), "three": (8, 100.0, 3.0)}
    used = served_tokens(tenants, seats=4, limit=1000, seconds=60.0)
    assert used["three"] / used["one"] == pytest.approx(3.0, rel=0.1)


def test_estimates_that_are_always_too_low_bring_no_advantage() -> None:
    """Without the correction at the end, the liar would get ten times the tokens."""
    admission = fair_admission(0)
    used: Counter[str] = Counter()
    costs = {"honest": (100.0, 100.0), "liar": (10.0, 100.0)}
    for name, (estimate, _) in costs.items():
        for _ in range(2000):
            admission.offer(0, Q2, 0.0, caller=Caller(name), cost=estimate)
    admission.pool.update({"pod": True}, 4)
    running: list[Ticket[int]] = []
    for _ in range(1000):
        while (started := admission.start_next(0.0)) is not None:
            running.append(started)
        ticket = running.pop(0)
        name = ticket.caller.tenant
        admission.finish(ticket, 0.0, costs[name][1])
        used[name] += 1
    assert jain([float(count) for count in used.values()]) >= 0.98, used


REQUESTS = st.lists(
    st.tuples(st.sampled_from(TENANTS), st.floats(1.0, 1000.0), st.floats(1.0, 1000.0)),
    min_size=1,
    max_size=60,
)


def orders(requests: list[tuple[str, float, float]], seats: int = 0) -> list[Ticket[int]]:
    """Queue all requests (tenant, estimate, deadline), then serve them one at a time."""
    admission = fair_admission(seats)
    callers = {name: Caller(name) for name in TENANTS}
    for number, (name, cost, deadline) in enumerate(requests):
        admission.offer(number, Q2, 0.0, deadline, caller=callers[name], cost=cost)
    admission.pool.update({"pod": True}, 1)
    served: list[Ticket[int]] = []
    while (ticket := admission.start_next(0.0)) is not None:
        served.append(ticket)
        admission.finish(ticket, 0.0)
    return served


@given(requests=REQUESTS, left_out=st.sampled_from(TENANTS))
def test_the_order_of_tenants_does_not_depend_on_another_tenant(
    requests: list[tuple[str, float, float]], left_out: str
) -> None:
    everything = [(t.caller.tenant, t.cost, t.deadline) for t in orders(requests)]
    without = orders([request for request in requests if request[0] != left_out])
    assert [entry for entry in everything if entry[0] != left_out] == [
        (t.caller.tenant, t.cost, t.deadline) for t in without
    ]


@given(requests=REQUESTS)
def test_the_earliest_deadline_of_a_tenant_is_first(
    requests: list[tuple[str, float, float]],
) -> None:
    served = orders(requests)
    assert len(served) == len(requests)
    for tenant in TENANTS:
        deadlines = [t.deadline for t in served if t.caller.tenant == tenant]
        assert deadlines == sorted(deadlines)


@given(
    others=st.lists(st.floats(1.0, 100.0), min_size=1, max_size=40),
    mine=st.floats(1.0, 1000.0),
    weight=st.sampled_from((0.1, 1.0, 4.0)),
)
def test_no_tenant_starves(others: list[float], mine: float, weight: float) -> None:
    """A request starts after at most one request of each other tenant beyond its own tag."""
    admission = fair_admission(0)
    for number, cost in enumerate(others):
        for _ in range(20):
            admission.offer(0, Q2, 0.0, caller=Caller(f"t{number}"), cost=cost)
    admission.offer(1, Q2, 0.0, caller=Caller("late", weight=weight), cost=mine)
    admission.pool.update({"pod": True}, 1)
    for started in itertools.count():
        ticket = admission.start_next(0.0)
        assert ticket is not None
        admission.finish(ticket, 0.0)
        if ticket.item:
            assert started <= len(others)
            break


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(TENANTS), st.sampled_from(("arrive", "end", "leave", "retry"))),
        max_size=120,
    ),
    seats=st.integers(1, 3),
)
def test_a_seat_is_never_idle_while_a_tenant_has_a_queued_request(
    steps: list[tuple[str, str]], seats: int
) -> None:
    admission = fair_admission(seats, limit=8)
    live: list[Ticket[int]] = []
    now = 0.0
    for tenant, action in steps:
        now += 0.1
        if action == "arrive":
            outcome = admission.offer(0, Q2, now, caller=Caller(tenant), cost=now * 10.0)
            for displaced in admission.displaced:
                live.remove(displaced)
            admission.displaced = []
            if isinstance(outcome, Ticket):
                live.append(outcome)
        wanted = TicketState.QUEUED if action == "leave" else TicketState.RUNNING
        matching = [t for t in live if t.state is wanted and t.caller.tenant == tenant]
        if matching and action in ("end", "leave"):
            live.remove(matching[0])
            assert admission.finish(matching[0], now, now * 100.0)
        elif matching and action == "retry":
            admission.retry(matching[0])
        while admission.start_next(now) is not None:
            pass
        running = sum(t.state is TicketState.RUNNING for t in live)
        assert admission.waiting == len(live) - running
        assert running == min(seats, len(live))
    for ticket in live:
        admission.finish(ticket, now)
    queue = admission._queues[Q2]
    assert isinstance(queue, FairShareQueue)
    assert not queue._flows, "an idle queue remembers no tenant"
    assert queue._weight == 0.0
