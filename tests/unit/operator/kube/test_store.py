"""Stores with late, duplicate and out-of-order events."""

from typing import Any

from r1_operator.api.names import Label
from r1_operator.kube.kinds import DEPLOYMENT, POD, R1INFERENCE, Key
from r1_operator.kube.store import Stores

OWNER = Key("ns", "r1")


def deployment(
    version: int, *, uid: str = "u1", replicas: int = 2, ready: int = 0
) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": "r1",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {Label.RESOURCE.value: "r1"},
            "managedFields": [{"manager": "x" * 1000}],
        },
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": ready},
    }


def pod(version: int, name: str = "p", owner: str = "r1") -> dict[str, Any]:
    labels = {Label.RESOURCE.value: owner}
    metadata = {
        "namespace": "ns",
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": labels,
    }
    return {"metadata": metadata, "status": {"phase": "Running"}}


def test_an_object_identifies_its_resource() -> None:
    stores = Stores()
    assert stores.put(DEPLOYMENT, deployment(1)) == OWNER
    assert stores.put(POD, pod(1)) == OWNER
    resource = {"metadata": {"namespace": "ns", "name": "r1", "resourceVersion": "1"}, "spec": {}}
    assert stores.put(R1INFERENCE, resource) == OWNER


def test_an_older_version_never_replaces_a_newer_one() -> None:
    stores = Stores()
    stores.put(DEPLOYMENT, deployment(5, replicas=5))
    assert stores.put(DEPLOYMENT, deployment(4, replicas=1)) is None
    assert stores.put(DEPLOYMENT, deployment(5, replicas=5)) is None, "our own write, echoed"
    stored = stores.children["Deployment"].get(OWNER)
    assert stored is not None
    assert stored.replicas == 5


def test_a_deleted_event_removes_only_its_own_uid() -> None:
    stores = Stores()
    stores.put(DEPLOYMENT, deployment(9, uid="new"))
    assert stores.remove(DEPLOYMENT, deployment(8, uid="old")) is None
    assert stores.children["Deployment"].get(OWNER) is not None
    assert stores.remove(DEPLOYMENT, deployment(10, uid="new")) == OWNER
    assert stores.children["Deployment"].get(OWNER) is None


def test_synced_hash_stays_until_the_desired_state_changes() -> None:
    stores = Stores()
    store = stores.children["Deployment"]
    stores.put(DEPLOYMENT, deployment(1))
    stored = store.get(OWNER)
    assert stored is not None
    stored.synced_hash = "hash"
    stores.put(DEPLOYMENT, deployment(2, ready=1))
    entry = store.get(OWNER)
    assert entry is not None
    assert entry.synced_hash == "hash", "a status is no change"
    stores.put(DEPLOYMENT, deployment(3, replicas=7))
    changed = store.get(OWNER)
    assert changed is not None
    assert changed.synced_hash == ""


def test_managed_fields_are_not_stored() -> None:
    stores = Stores()
    stores.put(DEPLOYMENT, deployment(1))
    stored = stores.children["Deployment"].get(OWNER)
    assert stored is not None
    assert b"managedFields" not in stored.text
    assert stored.load()["spec"] == {"replicas": 2}


def test_a_pod_that_changes_its_label_changes_its_owner() -> None:
    stores = Stores()
    stores.put(POD, pod(1))
    assert [one.name for one in stores.pods.of(OWNER)] == ["p"]
    stores.put(POD, pod(2, owner="other"))
    assert stores.pods.of(OWNER) == ()
    assert [one.name for one in stores.pods.of(Key("ns", "other"))] == ["p"]
    stores.remove(POD, pod(3, owner="other"))
    assert len(stores.pods) == 0
    assert stores.pods.by_owner == {}
