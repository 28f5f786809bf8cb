"""The node's configuration says what each setting is there for, and names only its own folders."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from r1_cluster.errors import ClusterError
from r1_cluster.node import node_files
from r1_cluster.node.node_processes import node_binds, plan_processes
from r1_cluster.programs.pins import ALL_BINARIES
from r1_cluster.settings import ClusterSettings, check_name

PROGRAMS = {name: Path("/cache") / name for name in ALL_BINARIES}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ClusterSettings:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return ClusterSettings(name="one", index=3, kwok=True)


def argv(settings: ClusterSettings, name: str) -> list[str]:
    return next(each.argv for each in plan_processes(settings, PROGRAMS) if each.name == name)


def test_containerd_uses_its_own_paths(settings: ClusterSettings) -> None:
    document = tomllib.loads(node_files.render_containerd(settings))
    cri = document["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is True
    assert cri["sandbox_image"] == node_files.PAUSE_IMAGE
    assert cri["cni"]["conf_dir"] == str(settings.folder / "cni")
    hidden = node_binds(settings)
    assert document["root"] in hidden
    assert document["state"] in hidden
    assert Path(document["grpc"]["address"]).parent == Path(document["state"])


def test_the_kubelet_tolerates_cgroup_v1_and_full_disks(
    settings: ClusterSettings,
) -> None:
    document = node_files.kubelet(settings)
    assert document["failCgroupV1"] is False
    assert document["failSwapOn"] is False
    assert document["cgroupDriver"] == "cgroupfs"
    assert document["cgroupRoot"] == "/r1-cluster-one"
    assert document["imageGCHighThresholdPercent"] == 100
    # An eviction for lack of disk collects images that nobody can pull again.
    disks = {k: v for k, v in document["evictionHard"].items() if "fs." in k}
    assert set(disks) == {
        f"{fs}.{of}" for fs in ("nodefs", "imagefs") for of in ("available", "inodesFree")
    }
    assert set(disks.values()) == {"0%"}
    assert document["clusterDNS"] == [settings.addresses.node]


def test_two_clusters_share_no_address_and_no_folder(settings: ClusterSettings) -> None:
    other = ClusterSettings(name="two", index=4)
    texts = "\n".join(node_files.render_all(other).values())
    commands = json.dumps([each.argv for each in plan_processes(other, PROGRAMS)])
    for foreign in ("10.213.", "/one/", "one-node"):
        assert foreign not in texts + commands


def test_kube_proxy_keeps_the_machines_conntrack_limits(settings: ClusterSettings) -> None:
    conntrack = node_files.kube_proxy(settings)["conntrack"]
    assert (conntrack["maxPerCore"], conntrack["min"]) == (0, 0)


def test_every_rendered_yaml_is_one_document(settings: ClusterSettings) -> None:
    for path, text in node_files.render_all(settings).items():
        if path.endswith((".yaml", ".conflist")):
            assert isinstance(json.loads(text), dict)


def test_the_api_server_can_front_an_aggregated_api(settings: ClusterSettings) -> None:
    flags = {flag.split("=")[0] for flag in argv(settings, "kube-apiserver")}
    assert flags >= {
        "--requestheader-client-ca-file",
        "--requestheader-allowed-names",
        "--proxy-client-cert-file",
        "--proxy-client-key-file",
        "--enable-aggregator-routing",
    }


def test_extra_arguments_come_last(settings: ClusterSettings) -> None:
    extra = {"kube-controller-manager": ["--horizontal-pod-autoscaler-sync-period=2s"]}
    changed = ClusterSettings(name="one", index=3, extra_arguments=extra)
    assert argv(changed, "kube-controller-manager")[-1] == extra["kube-controller-manager"][0]


def test_optional_processes_are_off_by_default() -> None:
    plain = ClusterSettings(name="one", index=3, prometheus=False)
    names = {each.name for each in plan_processes(plain, PROGRAMS)}
    assert names.isdisjoint({"kwok", "prometheus", "pod_targets"})


def test_the_scrape_interval_reaches_prometheus(settings: ClusterSettings) -> None:
    assert node_files.prometheus(settings)["global"]["scrape_interval"] == "2000ms"


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "../up", "a" * 31])
def test_an_invalid_cluster_name_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="--name"):
        check_name(name)


def pod(**changes: Any) -> dict[str, Any]:
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8000"}
    metadata = {"name": "p", "namespace": "n", "annotations": annotations, "labels": {}}
    return {"metadata": metadata | changes, "status": {"phase": "Running", "podIP": "10.1.1.1"}}


def test_a_pods_annotations_make_it_a_target() -> None:
    from r1_cluster.monitoring.pod_targets import build_targets

    labels = {"app.kubernetes.io/name": "r1inference", "other": "x"}
    assert build_targets([pod(labels=labels)]) == [
        {
            "targets": ["10.1.1.1:8000"],
            "labels": {
                "namespace": "n",
                "pod": "p",
                "__metrics_path__": "/metrics",
                "app": "r1inference",
            },
        }
    ]


@pytest.mark.parametrize(
    "unwanted",
    [
        pod(annotations={}),
        pod(annotations={"prometheus.io/scrape": "false", "prometheus.io/port": "8000"}),
        pod(annotations={"prometheus.io/scrape": "true", "prometheus.io/port": "http"}),
        pod() | {"status": {"phase": "Pending"}},
        pod() | {"status": {"phase": "Running"}},
    ],
)
def test_a_pod_without_an_address_is_no_target(unwanted: dict[str, Any]) -> None:
    from r1_cluster.monitoring.pod_targets import build_targets

    assert build_targets([unwanted]) == []
