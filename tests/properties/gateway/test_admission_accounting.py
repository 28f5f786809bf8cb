"""Accounting of admission under any sequence of events: seats, queues and reserved returns add up."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy, PriorityClass
from r1_gateway.admission.admission_queue import DISPATCHES_PER_OVERRIDE, Admission
from r1_gateway.admission.class_queue import FifoQueue
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.fair_share_queue import FairShareQueue
from r1_gateway.admission.reserved_returns import ReservedReturn
from r1_gateway.admission.ticket import Rejection, Ticket, TicketState
from r1_gateway.tenants.caller import Caller

ADDRESSES = ("a", "b", "c")


TENANTS = tuple(
    Caller(name, weight=weight) for name, weight in (("x", 1.0), ("y", 1.0), ("z", 3.0))
)


class AdmissionMachine(RuleBasedStateMachine):
    """Arrivals, endings, departures, failures and resizes on a clock that never goes back."""

    new_queue: type[FifoQueue[int]] | type[FairShareQueue[int]] = FifoQueue

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.pool = EndpointPool()
        policies = [ClassPolicy(4, 10.0 * (k + 1), 2.0) for k in range(len(CLASSES))]
        self.admission: Admission[int] = Admission(policies, self.pool, self.new_queue)
        self.tickets: list[Ticket[int]] = []
        self.ended: set[int] = set()
        self.seats = 0
        self.offered = self.refused = 0
        self.starts = self.overrides = 0
        self.reserved_returns: list[ReservedReturn] = []

    def _in(self, state: TicketState) -> list[Ticket[int]]:
        return [ticket for ticket in self.tickets if ticket.state is state]

    def _end(self, ticket: Ticket[int]) -> None:
        assert ticket.item not in self.ended, "ended twice"
        self.ended.add(ticket.item)
        self.tickets.remove(ticket)

    def _dispatch(self) -> None:
        for ticket in self.admission.expire(self.now):
            assert ticket.deadline <= self.now
            self._end(ticket)
        while (started := self.admission.start_next(self.now)) is not None:
            assert started.deadline > self.now, "expired, and started all the same"
            assert started.endpoint is not None
            assert started.endpoint.address not in started.avoid
            self.starts += 1
            address = started.endpoint.address
            self.overrides += any(
                ticket.klass < started.klass and address not in ticket.avoid and ticket.width == 1
                for ticket in self._in(TicketState.QUEUED)
            )

    @rule(
        klass=st.sampled_from(CLASSES),
        client_timeout=st.none() | st.floats(0.1, 50),
        width=st.sampled_from((1, 1, 1, 2, 3, 9)),
        returning=st.booleans(),
        caller=st.sampled_from(TENANTS),
    )
    def arrive(
        self,
        klass: PriorityClass,
        client_timeout: float | None,
        width: int,
        returning: bool,
        caller: Caller,
    ) -> None:
        self._dispatch()
        reserved_return = (
            self.reserved_returns.pop() if returning and self.reserved_returns else None
        )
        outcome = self.admission.offer(
            self.offered,
            klass,
            self.now,
            client_timeout,
            width=width,
            reserved_return=reserved_return,
            caller=caller,
            cost=10.0 * width,
        )
        self.offered += 1
        for displaced in self.admission.displaced:
            assert displaced.caller is not caller
            assert isinstance(outcome, Ticket)
            self._end(displaced)
        self.admission.displaced = []
        if isinstance(outcome, Rejection):
            self.refused += 1
            assert 1 <= outcome.retry_after_seconds <= 60
            if outcome.reason == "QueueFull":
                assert self.admission.queued(klass) >= 2  # half of the bound may be reserved
            if outcome.reserved_return is not None:
                assert outcome.reserved_return.due == self.now + outcome.retry_after_seconds
                self.reserved_returns.append(outcome.reserved_return)
        else:
            self.tickets.append(outcome)
            self.starts += outcome.state is TicketState.RUNNING
            self._dispatch()

    @precondition(lambda self: self._in(TicketState.RUNNING))
    @rule(data=st.data(), good=st.booleans())
    def finish(self, data: st.DataObject, good: bool) -> None:
        ticket = data.draw(st.sampled_from(self._in(TicketState.RUNNING)))
        assert ticket.endpoint is not None
        if good:
            self.pool.connected(ticket.endpoint)
            self.pool.response_started(ticket.endpoint)
            self.pool.completed(ticket.endpoint)
        else:
            self.pool.failed(ticket.endpoint, self.now, unreachable=False)
        cost = 100.0 if good else 0.0
        assert self.admission.finish(ticket, self.now, cost)
        assert not self.admission.finish(ticket, self.now, cost)
        self._end(ticket)
        self._dispatch()

    @precondition(lambda self: self._in(TicketState.RUNNING))
    @rule(data=st.data(), elsewhere=st.booleans())
    def fail_and_retry(self, data: st.DataObject, elsewhere: bool) -> None:
        ticket = data.draw(st.sampled_from(self._in(TicketState.RUNNING)))
        assert ticket.endpoint is not None
        self.pool.failed(ticket.endpoint, self.now, unreachable=not elsewhere)
        if elsewhere:
            avoid = ticket.endpoint.address
            self.admission.retry(ticket, avoid=avoid, deadline=self.now + 5)
        else:
            self.admission.retry(ticket)
        self._dispatch()

    @precondition(lambda self: self._in(TicketState.QUEUED))
    @rule(data=st.data())
    def leave_the_queue(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self._in(TicketState.QUEUED)))
        assert self.admission.finish(ticket, self.now)
        self._end(ticket)
        self._dispatch()  # as a route does: a wide request may have kept seats free

    @rule(
        ready=st.dictionaries(st.sampled_from(ADDRESSES), st.booleans()),
        seats=st.integers(1, 3),
    )
    def discover(self, ready: dict[str, bool], seats: int) -> None:
        self.pool.update(ready, seats)
        self.seats = seats
        self._dispatch()

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._dispatch()

    @rule()
    def drain(self) -> None:
        for ticket in self.admission.drain():
            self._end(ticket)

    @invariant()
    def seats_add_up(self) -> None:
        running = self._in(TicketState.RUNNING)
        assert sum(endpoint.in_flight for endpoint in self.pool) == sum(t.taken for t in running)
        for klass in CLASSES:
            assert self.admission.in_flight[klass] == sum(t.klass is klass for t in running)
        for endpoint in self.pool:
            assert endpoint.in_flight == sum(t.taken for t in running if t.endpoint is endpoint)
            assert 0 <= endpoint.in_flight <= 3
            assert endpoint.in_flight > 0 or not endpoint.removed

    @invariant()
    def no_request_is_lost(self) -> None:
        queued = self._in(TicketState.QUEUED)
        assert self.admission.waiting == len(queued)
        assert sum(self.admission.queued(klass) for klass in CLASSES) == len(queued)
        assert self.offered == self.refused + len(self.ended) + len(self.tickets)

    @invariant()
    def no_seat_is_idle_while_someone_could_use_it(self) -> None:
        for endpoint in self.pool:
            if not endpoint.has_free_seat(self.now) or endpoint is self.pool.emptying:
                continue
            for ticket in self._in(TicketState.QUEUED):
                fits = endpoint.seats - endpoint.in_flight >= min(ticket.width, endpoint.seats)
                assert not fits or endpoint.address in ticket.avoid

    @invariant()
    def a_pod_is_emptied_only_for_a_wide_request_that_waits(self) -> None:
        wide = self.admission._wide
        if self.pool.emptying is not None:
            assert wide is not None
            assert wide.state is TicketState.QUEUED
            assert wide.width > 1
            assert self.pool.emptying.listed_seats == 0

    @invariant()
    def free_seats_are_counted(self) -> None:
        assert self.pool._free == sum(endpoint.listed_seats for endpoint in self.pool)

    @invariant()
    def there_is_always_a_next_event(self) -> None:
        event = self.admission.next_event(self.now)
        assert (event is None) == (self.admission.waiting == 0)

    @invariant()
    def overrides_are_rare(self) -> None:
        assert self.overrides * DISPATCHES_PER_OVERRIDE <= self.starts


TestAdmissionAccounting = AdmissionMachine.TestCase
TestAdmissionAccounting.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


class FairShareMachine(AdmissionMachine):
    """The same with tenants, whose costs are estimated and corrected."""

    new_queue: type[FifoQueue[int]] | type[FairShareQueue[int]] = FairShareQueue

    @invariant()
    def an_idle_class_remembers_no_tenant(self) -> None:
        for klass in CLASSES:
            queue = self.admission._queues[klass]
            assert isinstance(queue, FairShareQueue)
            live = [t for t in self.tickets if t.klass is klass]
            assert queue._in_flight == sum(t.charged > 0.0 for t in live)
            if not live:
                assert not queue._flows
                assert queue._weight == 0.0


TestFairShareAccounting = FairShareMachine.TestCase
TestFairShareAccounting.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
