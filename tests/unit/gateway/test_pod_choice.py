"""Which pod gets a request, and which is left alone for a while."""

from r1_gateway.routing import FAILURES_BEFORE_PAUSE, LONGEST_PAUSE_SECONDS, Endpoint, EndpointPool


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


def test_least_in_flight_and_in_turn_when_equal() -> None:
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


def test_full_draining_and_avoided_pods_get_nothing() -> None:
    pool = pool_of(seats=1, a=True, b=False)
    assert pool.choose(0.0, {"a"}) is None
    assert take(pool).address == "a"
    assert pool.choose(0.0) is None
    assert (pool.seats, pool.ready, pool.known) == (1, 1, 2)
    assert not pool.has_other({"a"})


def test_a_pod_that_left_is_remembered_until_its_work_ends() -> None:
    pool = pool_of(seats=2, a=True)
    chosen = take(pool)
    pool.update({}, 2)
    assert (pool.known, pool.ready, pool.seats) == (1, 0, 0)
    pool.update({"a": True}, 2)
    assert named(pool, "a").in_flight == 1  # the same pod came back: its work still counts
    pool.update({}, 2)
    pool.release(chosen)
    assert pool.known == 0


def test_fewer_seats_wait_for_the_work_to_end() -> None:
    pool = pool_of(seats=2, a=True)
    take(pool)
    chosen = take(pool)
    pool.update({"a": True}, 1)
    pool.release(chosen)
    assert pool.choose(0.0) is None
    pool.release(chosen)
    assert pool.choose(0.0) is chosen


def test_an_unreachable_pod_is_paused_for_longer_and_longer_then_tried_once() -> None:
    pool = pool_of(a=True)
    now, pauses = 0.0, []
    for _ in range(10):
        endpoint = take(pool, now)
        assert pool.choose(now) is None or not endpoint.paused_until  # half-open: one at a time
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
    pool.succeeded(endpoint)
    assert pool.choose(now) is endpoint
    assert pool.next_recovery(now) is None


def test_requests_that_die_with_a_pod_are_one_failure() -> None:
    pool = pool_of(seats=8, a=True)
    for _ in range(8):
        take(pool)
    endpoint = named(pool, "a")
    for _ in range(8):
        pool.failed(endpoint, 0.0, unreachable=True)
    assert endpoint.failures == 1


def test_broken_answers_pause_a_pod_only_when_they_repeat() -> None:
    pool = pool_of(a=True)
    endpoint = named(pool, "a")
    for _ in range(FAILURES_BEFORE_PAUSE - 1):
        pool.failed(endpoint, 0.0, unreachable=False)
        assert pool.choose(0.0) is endpoint
    pool.failed(endpoint, 0.0, unreachable=False)
    assert pool.choose(0.0) is None


def test_a_pod_that_becomes_ready_again_starts_clean() -> None:
    pool = pool_of(a=True)
    pool.failed(named(pool, "a"), 0.0, unreachable=True)
    pool.update({"a": False}, 4)
    pool.update({"a": True}, 4)
    assert pool.choose(0.0) is not None


def test_a_probe_whose_client_left_does_not_close_the_pod_for_ever() -> None:
    pool = pool_of(a=True)
    pool.failed(named(pool, "a"), 0.0, unreachable=True)
    probe = take(pool, 1.0)
    assert pool.choose(1.0) is None
    pool.release(probe)
    assert pool.choose(1.0) is probe
