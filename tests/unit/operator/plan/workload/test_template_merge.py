"""Strategic merge of pod templates: by key where Kubernetes merges by key."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from r1_operator.plan.problem import Unplannable
from r1_operator.plan.workload.template import merge_template

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "engine",
                "image": "runtime",
                "command": ["serve"],
                "env": [{"name": "HOME", "value": "/tmp"}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
                "securityContext": {"readOnlyRootFilesystem": True, "runAsUser": 5},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "terminationGracePeriodSeconds": 30,
    },
}


def merged(over: dict[str, Any]) -> dict[str, Any]:
    return merge_template(BASE, over)


def engine(over: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = merged({"spec": {"containers": [{"name": "engine", **over}]}})[
        "spec"
    ]["containers"][0]
    return container


def test_nothing_over_something_is_the_same() -> None:
    assert merged({}) == BASE
    assert merged({"metadata": {}, "spec": {}}) == BASE


def test_a_merge_changes_no_input() -> None:
    before, over = copy.deepcopy(BASE), {"spec": {"volumes": [{"name": "x"}]}}
    original = copy.deepcopy(over)
    merged(over)
    assert before == BASE
    assert over == original


def test_maps_merge_and_null_removes() -> None:
    assert merged({"metadata": {"labels": {"b": "2"}}})["metadata"]["labels"] == {
        "a": "1",
        "b": "2",
    }
    assert engine({"securityContext": {"runAsUser": None}})["securityContext"] == {
        "readOnlyRootFilesystem": True
    }


def test_scalars_and_plain_lists_are_replaced() -> None:
    assert (
        merged({"spec": {"terminationGracePeriodSeconds": 5}})["spec"][
            "terminationGracePeriodSeconds"
        ]
        == 5
    )
    assert engine({"command": ["sleep", "1"]})["command"] == ["sleep", "1"]


def test_env_items_are_replaced_whole() -> None:
    secret = {"name": "HOME", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    assert engine({"env": [secret]})["env"] == [secret]


def test_mounts_merge_by_path_and_ports_by_number() -> None:
    mount = {"name": "cache", "mountPath": "/tmp"}
    assert engine({"volumeMounts": [mount]})["volumeMounts"] == [mount]
    port = {"containerPort": 9000}
    assert engine({"ports": [port]})["ports"] == [*BASE["spec"]["containers"][0]["ports"], port]
    same = {"name": "web", "containerPort": 8000}
    assert engine({"ports": [same]})["ports"] == [same]


def test_a_volume_keeps_one_source() -> None:
    volume = {"name": "tmp", "hostPath": {"path": "/scratch"}}
    assert merged({"spec": {"volumes": [volume]}})["spec"]["volumes"] == [volume]


def test_sidecars_and_tolerations_are_added() -> None:
    result = merged(
        {
            "spec": {
                "containers": [{"name": "sidecar", "image": "s"}],
                "tolerations": [{"key": "spot"}, {"key": "gpu", "operator": "Exists"}],
            }
        }
    )["spec"]
    assert [one["name"] for one in result["containers"]] == ["engine", "sidecar"]
    assert [one["key"] for one in result["tolerations"]] == ["gpu", "spot"]


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"spec": {"containers": {"name": "engine"}}}, r"spec\.template\.spec\.containers: .*list"),
        ({"spec": {"containers": ["engine"]}}, r"spec\.template\.spec\.containers: .*objects"),
        ({"spec": {"containers": [{"image": "x"}]}}, r"containers: each item needs name"),
        ({"spec": {"volumes": [{"name": ["x"]}]}}, r"volumes: each item needs name"),
        ({"spec": {"$patch": "replace"}}, r"spec\.template\.spec\.\$patch: patch directives"),
        ({"spec": {"containers": [{"name": "engine", "securityContext": 5}]}}, "must be an object"),
        ({"metadata": {"labels": "x"}}, r"metadata\.labels: must be an object"),
    ],
)
def test_an_invalid_template_is_named(over: dict[str, Any], says: str) -> None:
    with pytest.raises(Unplannable, match=says):
        merged(over)
