"""Choice of a pod, circuit breakers and ejections."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from r1_gateway.admission.endpoint_pool import (
    LONGEST_PAUSE_SECONDS,
    PROBE_SECONDS,
    Breaker,
    Endpoint,
    EndpointPool,
)
from r1_gateway.admission.passive_health import FIRST_EJECTION_SECONDS, FORGET_SECONDS


def pool_of(seats: int = 4, **ready: bool) -> EndpointPool:
    pool = EndpointPool()
    pool.update(ready, seats)
    return pool


def take(pool: EndpointPool, now: float = 0.0) -> Endpoint:
    chosen = pool.choose(now)
    assert chosen is not None
    pool.acquire(chosen)
    return chosen


def named(pool: EndpointPool, address: str) -> Endpoint:
    return next(endpoint for endpoint in pool if endpoint.address == address)


def test_pod_with_fewest_seats_in_use_is_chosen_round_robin_among_equals() -> None:
    pool = pool_of(a=True, b=True, c=True)
    assert sorted(take(pool).address for _ in range(3)) == ["a", "b", "c"]
    pool.release(named(pool, "b"))
    assert take(pool).address == "b"
    for endpoint in pool:
        pool.release(endpoint)
    firsts = []
    for _ in range(3):
        firsts.append(take(pool))
        pool.release(firsts[-1])
    assert sorted(endpoint.address for endpoint in firsts) == ["a", "b", "c"]


def test_full_draining_and_avoided_pods_get_no_request() -> None:
    pool = pool_of(seats=1, a=True, b=False)
    assert pool.choose(0.0, {"a"}) is None
    assert take(pool).address == "a"
    assert pool.choose(0.0) is None
    assert (pool.seats, pool.ready, pool.known) == (1, 1, 2)
    assert not pool.has_other({"a"})


def test_a_removed_pod_is_known_until_its_last_request_ends() -> None:
    pool = pool_of(seats=2, a=True)
    chosen = take(pool)
    pool.update({}, 2)
    assert (pool.known, pool.ready, pool.seats) == (1, 0, 0)
    pool.update({"a": True}, 2)
    assert named(pool, "a").in_flight == 1  # the same pod came back: its work still counts
    pool.update({}, 2)
    pool.release(chosen)
    assert pool.known == 0


def test_a_lower_seat_count_applies_as_requests_end() -> None:
    pool = pool_of(seats=2, a=True)
    take(pool)
    chosen = take(pool)
    pool.update({"a": True}, 1)
    pool.release(chosen)
    assert pool.choose(0.0) is None
    pool.release(chosen)
    assert pool.choose(0.0) is chosen


def test_an_unreachable_pod_is_paused_with_backoff_and_then_probed_once() -> None:
    pool = pool_of(a=True)
    now, pauses = 0.0, []
    for _ in range(10):
        endpoint = take(pool, now)
        assert pool.choose(now) is None or endpoint.breaker is None  # half-open: one at a time
        pool.failed(endpoint, now, unreachable=True)
        pool.release(endpoint)
        assert pool.choose(now) is None
        until = pool.next_recovery(now)
        assert until is not None
        pauses.append(until - now)
        now = until
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    endpoint = take(pool, now)
    assert pool.choose(now) is None
    pool.connected(endpoint)
    assert pool.choose(now) is endpoint
    assert pool.next_recovery(now) is None


def test_requests_that_fail_together_with_a_pod_count_as_one_failure() -> None:
    pool = pool_of(seats=8, a=True)
    for _ in range(8):
        take(pool)
    endpoint = named(pool, "a")
    for _ in range(8):
        pool.failed(endpoint, 0.0, unreachable=True)
    assert endpoint.failures == 1


def fail(pool: EndpointPool, address: str, times: int, now: float = 0.0) -> list[float | None]:
    return [pool.failed(named(pool, address), now, unreachable=False) for _ in range(times)]


def succeed(pool: EndpointPool, *addresses: str, times: int = 10) -> None:
    for address in addresses:
        for _ in range(times):
            pool.response_started(named(pool, address))
            pool.completed(named(pool, address))


def test_three_failures_in_a_row_eject_a_pod_that_is_worse_than_the_others() -> None:
    pool = pool_of(a=True, b=True, c=True)
    succeed(pool, "b", "c")
    assert fail(pool, "a", 3) == [None, None, FIRST_EJECTION_SECONDS]
    assert (pool.ejected, pool.available, pool.available_seats, pool.ready) == (1, 2, 8, 3)
    assert {take(pool).address for _ in range(8)} == {"b", "c"}
    assert pool.choose(0.0) is None


def test_a_success_between_failures_begins_the_count_in_a_row_anew() -> None:
    pool = pool_of(a=True, b=True)
    succeed(pool, "b", times=3)
    for _ in range(2):
        assert fail(pool, "a", 2) == [None, None]
        succeed(pool, "a", times=1)
    assert pool.ejected == 0


def test_a_pod_that_fails_a_third_of_its_requests_is_ejected_by_its_share() -> None:
    pool = pool_of(a=True, b=True, c=True)
    for _ in range(30):
        succeed(pool, "b", "c", times=3)
        succeed(pool, "a", times=2)
        fail(pool, "a", 1)
    assert named(pool, "a").breaker is Breaker.EJECTED


def test_failures_that_all_pods_share_eject_none() -> None:
    pool = pool_of(a=True, b=True, c=True, d=True)
    for _ in range(50):
        for address in "abcd":
            fail(pool, address, 1)
    assert pool.ejected <= 1  # the first to fail three times may go before the others have failed
    assert pool.available >= 3


def test_a_pod_that_dies_after_its_heads_is_ejected() -> None:
    pool = pool_of(a=True, b=True)
    succeed(pool, "b")
    bad = named(pool, "a")
    for _ in range(3):
        pool.response_started(bad)
        pool.failed(bad, 0.0, unreachable=False, after_head=True)
    assert bad.breaker is Breaker.EJECTED
    assert bad.outcomes.good == 0


def test_the_only_pod_is_never_ejected() -> None:
    pool = pool_of(a=True)
    assert fail(pool, "a", 20) == [None] * 20
    assert pool.choose(0.0) is named(pool, "a")


@given(
    count=st.integers(1, 9),
    events=st.lists(
        st.tuples(
            st.integers(0, 8), st.sampled_from(("bad", "unreachable", "good", "leave", "come"))
        ),
        max_size=120,
    ),
)
def test_at_most_half_of_the_ready_pods_are_ejected(
    count: int, events: list[tuple[int, str]]
) -> None:
    names = [f"pod-{n}" for n in range(count)]
    ready = dict.fromkeys(names, True)
    pool = EndpointPool()
    pool.update(ready, 4)
    now = 0.0
    for number, event in events:
        name = names[number % count]
        now += 0.3
        if event in ("leave", "come"):
            ready[name] = event == "come"
            pool.update(ready, 4)
        elif event == "good":
            pool.response_started(named(pool, name))
            pool.completed(named(pool, name))
        else:
            pool.failed(named(pool, name), now, unreachable=event == "unreachable")
        assert pool.ejected <= pool.ready // 2
        if pool.ejected:  # never in addition to more than half that cannot be reached
            assert pool.ready - pool.available <= pool.ready // 2
        assert pool._free == sum(e.listed_seats for e in pool)


def test_ejection_time_doubles_and_decreases_in_service() -> None:
    pool = pool_of(a=True, b=True)
    succeed(pool, "b", times=100)
    bad = named(pool, "a")
    now, seconds = 0.0, []
    fail(pool, "a", 3, now)
    for _ in range(8):
        seconds.append(bad.paused_until - now)
        now = bad.paused_until
        probe = pool.choose(now, {"b"})
        assert probe is bad
        pool.acquire(probe)
        assert pool.choose(now, {"b"}) is None  # half-open: one at a time
        pool.failed(bad, now, unreachable=False)
        pool.release(bad)
    assert seconds == [1, 2, 4, 8, 16, 32, 60, 60]
    now = bad.paused_until
    assert pool.choose(now, {"b"}) is bad
    pool.acquire(bad)
    pool.response_started(bad)
    pool.completed(bad)
    pool.release(bad)
    assert bad.breaker is None
    succeed(pool, "b", times=100)
    now += 10 * FORGET_SECONDS
    fail(pool, "a", 3, now)
    assert bad.paused_until - now == FIRST_EJECTION_SECONDS


def test_a_half_open_pod_gets_one_more_request_for_each_second_without_a_failure() -> None:
    pool = pool_of(a=True, b=True)
    succeed(pool, "b")
    fail(pool, "a", 3)
    now = FIRST_EJECTION_SECONDS
    for taken in range(1, 5):
        bad = pool.choose(now, {"b"})
        assert bad is not None
        pool.acquire(bad)
        assert bad.in_flight == taken
        assert pool.choose(now, {"b"}) is None
        assert taken == 4 or pool.next_recovery(now) == now + PROBE_SECONDS
        now += PROBE_SECONDS


def test_a_pod_that_can_be_connected_again_gets_its_full_load_at_once() -> None:
    pool = pool_of(seats=4, a=True)
    pool.failed(named(pool, "a"), 0.0, unreachable=True)
    endpoint = take(pool, 0.25)
    assert pool.choose(0.25) is None
    pool.connected(endpoint)
    assert [take(pool, 0.25).address for _ in range(3)] == ["a"] * 3


def test_a_late_head_does_not_end_an_ejection() -> None:
    pool = pool_of(a=True, b=True)
    succeed(pool, "b")
    fail(pool, "a", 3)
    pool.response_started(named(pool, "a"))
    assert pool.choose(0.5, {"b"}) is None


def test_a_wide_request_needs_a_pod_with_as_many_seats() -> None:
    pool = pool_of(seats=4, a=True, b=True)
    first = take(pool)
    assert pool.choose(0.0, (), 4) is not first
    second = pool.choose(0.0, (), 4)
    assert second is not None
    assert pool.acquire(second, 4) == 4
    assert pool.choose(0.0, (), 4) is None
    assert pool.choose(0.0, (), 3) is first
    pool.release(second, 4)
    assert pool.acquire(second, 100) == 4  # clamped to what a pod has
    pool.release(second, 4)
    assert [e.in_flight for e in pool] == [1, 0]


def test_choosing_a_pod_does_not_scan_all_pods() -> None:
    pool = pool_of(seats=1, **{f"p{n}": True for n in range(500)})
    looked = 0

    class Counting(dict[Endpoint, None]):
        def __iter__(self) -> Iterator[Endpoint]:
            nonlocal looked
            for endpoint in super().__iter__():
                looked += 1
                yield endpoint

    pool._loads = [Counting(each) for each in pool._loads]
    for _ in range(500):
        take(pool)
    assert looked <= 500
    assert pool.choose(0.0) is None
    assert pool._least <= 2


def test_a_pod_that_becomes_ready_again_has_no_failures() -> None:
    pool = pool_of(a=True)
    pool.failed(named(pool, "a"), 0.0, unreachable=True)
    pool.update({"a": False}, 4)
    pool.update({"a": True}, 4)
    assert pool.choose(0.0) is not None


def test_a_probe_whose_client_left_allows_another_probe() -> None:
    pool = pool_of(a=True)
    pool.failed(named(pool, "a"), 0.0, unreachable=True)
    probe = take(pool, 1.0)
    assert pool.choose(1.0) is None
    pool.release(probe)
    assert pool.choose(1.0) is probe


def test_a_probe_that_fails_as_requests_fail_everywhere_ends_the_ejection() -> None:
    """One request that every pod fails must not keep a pod out for longer and longer."""
    pool = pool_of(a=True, b=True, c=True)
    succeed(pool, "b", times=6)
    fail(pool, "a", 3)
    bad = named(pool, "a")
    assert bad.breaker is Breaker.EJECTED
    fail(pool, "b", 6)
    now = bad.paused_until
    assert pool.choose(now, {"b", "c"}) is bad
    pool.acquire(bad)
    pool.failed(bad, now, unreachable=False)
    pool.release(bad)
    assert bad.breaker is None
