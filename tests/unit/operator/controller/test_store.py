"""Views under late, doubled and crossed events."""

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


def test_an_object_names_the_resource_that_it_concerns() -> None:
    views = Stores()
    assert views.put(DEPLOYMENT, deployment(1)) == OWNER
    assert views.put(POD, pod(1)) == OWNER
    resource = {"metadata": {"namespace": "ns", "name": "r1", "resourceVersion": "1"}, "spec": {}}
    assert views.put(R1INFERENCE, resource) == OWNER


def test_an_older_version_never_replaces_a_newer_one() -> None:
    views = Stores()
    views.put(DEPLOYMENT, deployment(5, replicas=5))
    assert views.put(DEPLOYMENT, deployment(4, replicas=1)) is None
    assert views.put(DEPLOYMENT, deployment(5, replicas=5)) is None, "our own write, echoed"
    stored = views.children["Deployment"].get(OWNER)
    assert stored is not None
    assert stored.replicas == 5


def test_deleted_counts_for_the_uid_it_names_only() -> None:
    views = Stores()
    views.put(DEPLOYMENT, deployment(9, uid="new"))
    assert views.remove(DEPLOYMENT, deployment(8, uid="old")) is None
    assert views.children["Deployment"].get(OWNER) is not None
    assert views.remove(DEPLOYMENT, deployment(10, uid="new")) == OWNER
    assert views.children["Deployment"].get(OWNER) is None


def test_what_was_found_settled_stays_so_until_something_asked_for_changes() -> None:
    views = Stores()
    view = views.children["Deployment"]
    views.put(DEPLOYMENT, deployment(1))
    stored = view.get(OWNER)
    assert stored is not None
    stored.settled_for = "hash"
    views.put(DEPLOYMENT, deployment(2, ready=1))
    kept = view.get(OWNER)
    assert kept is not None
    assert kept.settled_for == "hash", "a status is no change"
    views.put(DEPLOYMENT, deployment(3, replicas=7))
    changed = view.get(OWNER)
    assert changed is not None
    assert changed.settled_for == ""


def test_managed_fields_are_not_kept() -> None:
    views = Stores()
    views.put(DEPLOYMENT, deployment(1))
    stored = views.children["Deployment"].get(OWNER)
    assert stored is not None
    assert b"managedFields" not in stored.text
    assert stored.load()["spec"] == {"replicas": 2}


def test_a_pod_that_changes_its_label_changes_its_owner() -> None:
    views = Stores()
    views.put(POD, pod(1))
    assert [one.name for one in views.pods.of(OWNER)] == ["p"]
    views.put(POD, pod(2, owner="other"))
    assert views.pods.of(OWNER) == ()
    assert [one.name for one in views.pods.of(Key("ns", "other"))] == ["p"]
    views.remove(POD, pod(3, owner="other"))
    assert len(views.pods) == 0
    assert views.pods.by_owner == {}
