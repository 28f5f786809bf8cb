"""Leader election with a Lease store with resourceVersions, in virtual time."""

import asyncio
import copy
from typing import Any

import pytest

from r1_operator.kube.client import Conflict, NotFound, Unreachable
from r1_operator.kube.kinds import Json
from r1_operator.kube.lease import LeaderElector, LeaseLost

pytestmark = pytest.mark.looptime


class LeaseStore:
    """One Lease with compare-and-swap, which can be unreachable for one client."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0
        self.away_for: set[str] = set()

    def of(self, user: str) -> "StoreClient":
        return StoreClient(self, user)


class StoreClient:
    """The client interface that `LeaderElector` uses."""

    def __init__(self, store: LeaseStore, user: str) -> None:
        self.store = store
        self.user = user

    async def request(self, method: str, path: str, body: Json | None = None, **_: Any) -> Json:
        await asyncio.sleep(0.01)
        store = self.store
        if self.user in store.away_for:
            raise Unreachable("away")
        if method == "GET":
            if store.lease is None:
                raise NotFound("none", status=404)
            return copy.deepcopy(store.lease)
        assert body is not None
        if method == "POST" and store.lease is not None:
            raise Conflict("exists", status=409)
        if method == "PUT":
            assert store.lease is not None
            current = store.lease["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != current:
                raise Conflict("somebody was faster", status=409)
        store.version += 1
        store.lease = copy.deepcopy(body)
        store.lease["metadata"]["resourceVersion"] = str(store.version)
        return copy.deepcopy(store.lease)

    async def get(self, *_: Any) -> Json:
        return await self.request("GET", "")

    async def replace(self, kind: Any, namespace: str, name: str, manifest: Json) -> Json:
        return await self.request("PUT", "", manifest)


def elector(store: LeaseStore, name: str) -> LeaderElector:
    client: Any = store.of(name)
    return LeaderElector(
        client,
        namespace="ns",
        name="lease",
        identity=name,
        lease_seconds=15,
        renew_seconds=5,
        clock=asyncio.get_running_loop().time,
    )


def holder(store: LeaseStore) -> str:
    assert store.lease is not None
    return str(store.lease["spec"]["holderIdentity"])


async def test_the_first_candidate_acquires_the_lease_and_the_second_waits() -> None:
    store = LeaseStore()
    one, two = elector(store, "one"), elector(store, "two")
    await one.acquire()
    renewing = asyncio.create_task(one.renew())
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(300)
    assert holder(store) == "one"
    assert one.is_held
    assert not waiting.done()
    for task in (renewing, waiting):
        task.cancel()
    await asyncio.gather(renewing, waiting, return_exceptions=True)


async def test_a_killed_leader_is_replaced_after_its_lease_and_within_30_s() -> None:
    store = LeaseStore()
    one, two = elector(store, "one"), elector(store, "two")
    await one.acquire()
    renewing = asyncio.create_task(one.renew())
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(61)
    renewing.cancel()  # kill -9
    killed = asyncio.get_running_loop().time()
    await waiting
    took = asyncio.get_running_loop().time() - killed
    assert 9 < took < 30
    assert holder(store) == "two"
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] == 1


async def test_a_partitioned_leader_stops_before_the_standby_starts() -> None:
    store = LeaseStore()
    one, two = elector(store, "one"), elector(store, "two")
    await one.acquire()
    renewing = asyncio.create_task(one.renew())
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(20)
    store.away_for.add("one")
    while not waiting.done():
        await asyncio.sleep(0.05)
        assert not (one.is_held and two.is_held), "never two that may write"
    with pytest.raises(LeaseLost):
        await renewing


async def test_a_suspended_leader_may_not_write_after_it_resumes() -> None:
    store = LeaseStore()
    one = elector(store, "one")
    await one.acquire()
    assert one.is_held
    await asyncio.sleep(11)  # kill -STOP: nobody renewed
    assert not one.is_held


async def test_a_lost_lease_is_not_taken_back() -> None:
    store = LeaseStore()
    one = elector(store, "one")
    await one.acquire()
    assert store.lease is not None
    store.lease["spec"]["holderIdentity"] = "two"
    with pytest.raises(LeaseLost, match="two holds"):
        await one.renew()


async def test_a_foreign_edit_of_the_lease_causes_one_retry() -> None:
    store = LeaseStore()
    one = elector(store, "one")
    await one.acquire()
    renewing = asyncio.create_task(one.renew())
    for _ in range(100):
        await asyncio.sleep(1)
        assert store.lease is not None
        store.version += 1
        store.lease["metadata"]["resourceVersion"] = str(store.version)
    assert not renewing.done()
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_a_released_lease_is_acquired_at_once() -> None:
    store = LeaseStore()
    one, two = elector(store, "one"), elector(store, "two")
    await one.acquire()
    waiting = asyncio.create_task(two.acquire())
    await asyncio.sleep(1)
    await one.release()
    assert not one.is_held
    released = asyncio.get_running_loop().time()
    await waiting
    assert asyncio.get_running_loop().time() - released < 5


async def test_a_restarted_container_takes_over_its_own_lease_at_once() -> None:
    store = LeaseStore()
    before, after = elector(store, "pod-a_1"), elector(store, "pod-a_2")
    await before.acquire()
    started = asyncio.get_running_loop().time()
    await after.acquire()
    assert asyncio.get_running_loop().time() - started < 1
    with pytest.raises(LeaseLost):
        await before.renew()


async def test_one_of_two_concurrent_candidates_acquires_the_lease() -> None:
    store = LeaseStore()
    both = [elector(store, name) for name in ("one", "two")]
    tasks = [asyncio.create_task(each.acquire()) for each in both]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(1)
    assert sum(task.done() for task in tasks) == 1
    assert sum(each.is_held for each in both) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
