"""Drift between a live object and its manifest."""

from typing import Any

import pytest

from r1_operator.controller.reconcile.drift import APPLIED, drift, manifest_hash, with_hash

WANTED: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}, "ownerReferences": [{"uid": "u", "name": "n"}]},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "engine",
                        "image": "r1:1",
                        "args": ["--a", "--b"],
                        "env": [{"name": "HOME", "value": "/tmp"}],
                        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "hostNetwork": False,
            }
        },
    },
}


def live() -> dict[str, Any]:
    """WANTED as stored by an API server: defaults, canonical quantities, fields of others."""
    return {
        "metadata": {
            "labels": {"a": "1", "theirs": "x"},
            "annotations": {"autoscaling/whatever": "1"},
            "ownerReferences": [{"uid": "u", "name": "n"}],
        },
        "spec": {
            "replicas": 2,
            "revisionHistoryLimit": 10,
            "template": {
                "spec": {
                    "containers": [
                        {"name": "sidecar", "image": "mesh:1"},
                        {
                            "name": "engine",
                            "image": "r1:1",
                            "args": ["--a", "--b"],
                            "env": [{"name": "X", "value": "y"}, {"name": "HOME", "value": "/tmp"}],
                            "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                            "terminationMessagePath": "/dev/termination-log",
                        },
                    ],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    "dnsPolicy": "ClusterFirst",
                }
            },
        },
        "status": {"replicas": 2},
    }


def test_defaults_sidecars_and_canonical_quantities_are_no_drift() -> None:
    assert drift(WANTED, live()) == []


def engine(obj: dict[str, Any]) -> dict[str, Any]:
    """The engine container of a live object."""
    container: dict[str, Any] = obj["spec"]["template"]["spec"]["containers"][1]
    return container


def change_replicas(obj: dict[str, Any]) -> None:
    obj["spec"]["replicas"] = 3


def change_image(obj: dict[str, Any]) -> None:
    engine(obj)["image"] = "r1:2"


def drop_env(obj: dict[str, Any]) -> None:
    engine(obj)["env"] = []


def add_argument(obj: dict[str, Any]) -> None:
    engine(obj)["args"].append("--c")


def swap_arguments(obj: dict[str, Any]) -> None:
    engine(obj)["args"].reverse()


def change_memory(obj: dict[str, Any]) -> None:
    engine(obj)["resources"]["limits"]["memory"] = "2Gi"


def drop_label(obj: dict[str, Any]) -> None:
    del obj["metadata"]["labels"]["a"]


def drop_owner(obj: dict[str, Any]) -> None:
    obj["metadata"]["ownerReferences"] = []


def turn_on_host_network(obj: dict[str, Any]) -> None:
    obj["spec"]["template"]["spec"]["hostNetwork"] = True


def drop_containers(obj: dict[str, Any]) -> None:
    obj["spec"]["template"]["spec"]["containers"] = None


@pytest.mark.parametrize(
    ("edit", "path"),
    [
        (change_replicas, ".spec.replicas"),
        (change_image, ".spec.template.spec.containers[engine].image"),
        (drop_env, ".spec.template.spec.containers[engine].env[HOME]"),
        (add_argument, ".spec.template.spec.containers[engine].args"),
        (swap_arguments, ".spec.template.spec.containers[engine].args[0]"),
        (change_memory, ".spec.template.spec.containers[engine].resources.limits.memory"),
        (drop_label, ".metadata.labels.a"),
        (drop_owner, ".metadata.ownerReferences[u]"),
        (turn_on_host_network, ".spec.template.spec.hostNetwork"),
        (drop_containers, ".spec.template.spec.containers"),
    ],
)
def test_each_foreign_edit_is_reported_with_its_path(edit: Any, path: str) -> None:
    changed = live()
    edit(changed)
    assert path in drift(WANTED, changed)


def test_text_that_looks_like_a_quantity_is_compared_as_text() -> None:
    assert drift({"labels": {"version": "1.0"}}, {"labels": {"version": "1"}}) == [
        ".labels.version"
    ]


def test_the_manifest_hash_ignores_key_order() -> None:
    assert manifest_hash({"a": 1, "b": 2}) == manifest_hash({"b": 2, "a": 1})
    assert manifest_hash({"a": 1}) != manifest_hash({"a": 2})


def test_the_hash_is_added_to_a_copy_of_the_manifest() -> None:
    manifest = {"metadata": {"name": "n", "annotations": {"x": "y"}}}
    stamped = with_hash(manifest, "h")
    assert stamped["metadata"]["annotations"] == {"x": "y", APPLIED: "h"}
    assert manifest["metadata"]["annotations"] == {"x": "y"}
