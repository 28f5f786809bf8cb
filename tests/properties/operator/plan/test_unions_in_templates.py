"""Exactly one member of a union remains, whatever operator, site and owner set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_operator.plan.workload.template import merge_template

Json = dict[str, Any]

PROBE: Json = {
    "exec": {"command": ["true"]},
    "httpGet": {"path": "/x", "port": 8000, "scheme": "HTTP"},
    "tcpSocket": {"port": 8000},
    "grpc": {"port": 8000},
}
HANDLER: Json = {
    "exec": {"command": ["true"]},
    "httpGet": {"path": "/x", "port": "http"},
    "tcpSocket": {"port": 8000},
    "sleep": {"seconds": 3},
}
VOLUME_SOURCES = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
]
ENV: Json = {"value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
HOLDERS: dict[str, tuple[tuple[str, ...], Json]] = {
    "livenessProbe": (("livenessProbe",), PROBE),
    "readinessProbe": (("readinessProbe",), PROBE),
    "startupProbe": (("startupProbe",), PROBE),
    "preStop": (("lifecycle", "preStop"), HANDLER),
    "postStart": (("lifecycle", "postStart"), HANDLER),
}


def container(name: str, fields: Json, kind: str = "containers") -> Json:
    return {"spec": {kind: [{"name": name, **fields}]}}


def nested(path: tuple[str, ...], value: Json) -> Json:
    for part in reversed(path):
        value = {part: value}
    return value


def layers(members: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(members), min_size=1, max_size=4)


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
@given(data=st.data())
def test_the_last_handler_is_the_only_one(holder: str, kind: str, data: st.DataObject) -> None:
    path, values = HOLDERS[holder]
    chosen = data.draw(layers(sorted(values)))
    extra = data.draw(st.lists(st.integers(1, 9), min_size=len(chosen), max_size=len(chosen)))
    merged: Json = {}
    for member, period in zip(chosen, extra, strict=True):
        fields = nested(path, {member: values[member], "periodSeconds": period})
        merged = merge_template(merged, container("engine", fields, kind))
    handler = merged["spec"][kind][0]
    for part in path:
        handler = handler[part]
    assert [key for key in handler if key in values] == [chosen[-1]]
    assert handler[chosen[-1]] == values[chosen[-1]]
    assert handler["periodSeconds"] == extra[-1], "what belongs to no member is merged"


@given(layers(VOLUME_SOURCES), st.booleans())
def test_the_last_volume_source_is_the_only_one(chosen: list[str], cleared: bool) -> None:
    merged: Json = {}
    for source in chosen:
        volume: Json = {"name": "v", source: {"a": "b"}}
        if cleared:  # as for the merge of kubectl
            volume = {**dict.fromkeys(VOLUME_SOURCES), **volume}
        merged = merge_template(merged, {"spec": {"volumes": [volume]}})
    assert merged["spec"]["volumes"] == [{"name": "v", chosen[-1]: {"a": "b"}}]


@given(layers(sorted(ENV)), st.booleans())
def test_an_env_has_a_value_or_a_source(chosen: list[str], cleared: bool) -> None:
    merged: Json = {}
    for member in chosen:
        env: Json = {"name": "E", member: ENV[member]}
        if cleared:
            env = {"value": None, "valueFrom": None, **env}
        merged = merge_template(merged, container("engine", {"env": [env]}))
    assert merged["spec"]["containers"][0]["env"] == [{"name": "E", chosen[-1]: ENV[chosen[-1]]}]


@pytest.mark.parametrize("profile", ["seccompProfile", "appArmorProfile"])
@given(chosen=layers(["RuntimeDefault", "Localhost", "Unconfined"]))
def test_a_profile_keeps_its_path_only_with_localhost(profile: str, chosen: list[str]) -> None:
    merged: Json = {}
    for number, kind in enumerate(chosen):
        value: Json = {"type": kind}
        if kind == "Localhost":
            value["localhostProfile"] = f"{number}.json"
        for fields in ({"spec": {"securityContext": {profile: value}}},):
            merged = merge_template(merged, fields)
        merged = merge_template(merged, container("engine", {"securityContext": {profile: value}}))
    for spec_part in (merged["spec"], merged["spec"]["containers"][0]):
        assert spec_part["securityContext"][profile] == value


def test_a_part_of_the_same_member_is_merged_into_it() -> None:
    base = container("engine", {"readinessProbe": {"httpGet": PROBE["httpGet"]}})
    over = container("engine", {"readinessProbe": {"httpGet": {"port": 9000}}})
    probe = merge_template(base, over)["spec"]["containers"][0]["readinessProbe"]
    assert probe == {"httpGet": {"path": "/x", "port": 9000, "scheme": "HTTP"}}


def test_a_handler_that_is_taken_off_by_null_replaces_nothing() -> None:
    base = container("engine", {"lifecycle": {"preStop": {"sleep": {"seconds": 3}}}})
    over = container("engine", {"lifecycle": {"preStop": {"exec": None}}})
    assert merge_template(base, over) == base


MAPS = ("labels", "annotations")
NAMES = st.sampled_from(
    ["env", "ports", "volumes", "containers", "tolerations", "claims", "preStop"]
)


@given(st.dictionaries(NAMES, st.text(max_size=3), min_size=1))
def test_labels_and_selectors_may_have_any_name(values: dict[str, str]) -> None:
    over = {
        "metadata": dict.fromkeys(MAPS, values),
        "spec": {"nodeSelector": values, "containers": [{"name": "engine"}]},
    }
    for base in ({}, {"metadata": {"labels": {"a": "b"}}, "spec": {"nodeSelector": {"a": "b"}}}):
        merged = merge_template(base, over)
        assert values.items() <= merged["metadata"]["labels"].items()
        assert values.items() <= merged["spec"]["nodeSelector"].items()


def test_device_claims_of_site_and_owner_are_merged() -> None:
    def claim(name: str) -> Json:
        pod = {"name": name, "resourceClaimTemplateName": name}
        fields = {"resources": {"claims": [{"name": name}]}}
        return {"spec": {"resourceClaims": [pod], **container("engine", fields)["spec"]}}

    spec = merge_template(claim("network"), claim("gpus"))["spec"]
    assert [one["name"] for one in spec["resourceClaims"]] == ["network", "gpus"]
    assert spec["containers"][0]["resources"]["claims"] == [{"name": "network"}, {"name": "gpus"}]
