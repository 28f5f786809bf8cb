"""Throughput of the classes while all of them have requests waiting."""

from hypothesis import given
from hypothesis import strategies as st

from r1_common.contracts.priority_classes import CLASSES, ClassPolicy
from r1_gateway.admission.admission_queue import Admission
from r1_gateway.admission.endpoint_pool import EndpointPool
from r1_gateway.admission.ticket import Ticket

NEVER = 1e9
AGES = st.sampled_from((0.0, 0.1, 1.0, 2.0, 5.0, 30.0, NEVER))
BACKLOG = 5


def starts(
    ages: tuple[float, ...],
    targets: tuple[float | None, ...],
    pods: int,
    seats: int,
    dispatches: int,
) -> list[int]:
    """Starts by class; every queue is filled again after each start, every seat is held for 50 ms."""
    pool = EndpointPool()
    pool.update({f"pod-{n}": True for n in range(pods)}, seats)
    policies = [
        ClassPolicy(1000, NEVER, age, target) for age, target in zip(ages, targets, strict=True)
    ]
    admission: Admission[int] = Admission(policies, pool)
    counts = [0] * len(CLASSES)
    running: list[Ticket[int]] = []
    now = 0.0
    pool.update(
        dict.fromkeys((e.address for e in pool), False), seats
    )  # nothing starts before all wait

    def refill() -> None:
        for klass in CLASSES:
            while admission.queued(klass) < BACKLOG:
                admission.offer(0, klass, now)

    refill()
    pool.update({e.address: True for e in pool}, seats)
    while sum(counts) < dispatches:
        while (started := admission.start_next(now)) is not None:
            counts[started.klass] += 1
            running.append(started)
            refill()
        now += 0.05 / (pods * seats)
        admission.finish(running.pop(0), now)
    return counts


@given(
    ages=st.tuples(AGES, AGES, AGES),
    targets=st.tuples(*[st.none() | st.sampled_from((0.05, 1.0))] * 3),
    pods=st.integers(1, 3),
    seats=st.integers(1, 4),
    dispatches=st.integers(1, 400),
)
def test_throughput_never_rises_with_falling_urgency(
    ages: tuple[float, ...],
    targets: tuple[float | None, ...],
    pods: int,
    seats: int,
    dispatches: int,
) -> None:
    counts = starts(ages, targets, pods, seats, dispatches)
    assert counts == sorted(counts, reverse=True), counts


@given(
    ages=st.tuples(AGES, st.sampled_from((0.0, 0.1, 1.0)), st.sampled_from((0.0, 0.1, 1.0))),
    targets=st.tuples(*[st.none() | st.sampled_from((0.05, 1.0))] * 3),
    pods=st.integers(1, 2),
    seats=st.integers(1, 2),
)
def test_no_aged_class_starves(
    ages: tuple[float, ...], targets: tuple[float | None, ...], pods: int, seats: int
) -> None:
    counts = starts(ages, targets, pods, seats, 600)
    assert min(counts) >= 600 // 40, counts
