"""The pins decide the cache's key: what changes the binaries changes the key, nothing else does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from r1_cluster.errors import ClusterError, MissingTool
from r1_cluster.programs import pins
from r1_cluster.programs.binaries import ensure_binaries, tools_folder

GO_MOD = """\
module example

require (
\tgo.etcd.io/etcd/server/v3 v3.6.4
\tk8s.io/kubernetes v1.34.4
)
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    for name in ("go.mod", "go.sum", "pause/main.go"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tools_folder() / name, tmp_path / name)
    return tmp_path


def test_versions_are_read_from_go_mod() -> None:
    assert pins.module_version(GO_MOD, pins.KUBERNETES) == "v1.34.4"
    assert pins.module_version(GO_MOD, pins.ETCD) == "v3.6.4"


def test_a_module_without_a_pin_is_named() -> None:
    with pytest.raises(ClusterError, match="does not pin k8s.io/kubernetes"):
        pins.module_version("module example", pins.KUBERNETES)


def test_this_projects_go_mod_pins_the_release_that_knows_cgroup_v1() -> None:
    version = pins.module_version((tools_folder() / "go.mod").read_text(), pins.KUBERNETES)
    assert version.startswith("v1.34.")


def test_the_version_is_stamped_on_server_and_client() -> None:
    flags = pins.version_flags("v1.34.4")
    assert "k8s.io/component-base/version.gitVersion=v1.34.4" in flags
    assert "gitMajor=1 " in flags
    assert "gitMinor=34 " in flags
    assert "k8s.io/client-go/pkg/version.gitVersion=v1.34.4" in flags


def test_the_pinned_helm_assumes_the_pinned_kubernetes() -> None:
    """`helm template` without --kube-version renders for it; unstamped it assumes v1.20."""
    flags = pins.install_flags("helm", "v1.34.4").split()
    assert "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1" in flags
    assert "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34" in flags
    assert pins.install_flags("kwok", "v1.34.4") == "-s -w"


def test_the_key_is_stable(tools: Path) -> None:
    assert pins.cache_key(tools) == pins.cache_key(tools_folder())


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "pause/main.go"])
def test_the_key_changes_with_each_input(tools: Path, name: str) -> None:
    (tools / name).write_text("changed")
    assert pins.cache_key(tools) != pins.cache_key(tools_folder())


def test_given_assets_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in pins.APISERVER_SET:
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    binaries = ensure_binaries(pins.APISERVER_SET)
    assert binaries == {name: tmp_path / name for name in pins.APISERVER_SET}


def test_an_asset_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(MissingTool, match="has no etcd. Unset the variable"):
        ensure_binaries(("etcd",))
