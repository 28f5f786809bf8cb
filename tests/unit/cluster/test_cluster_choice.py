"""Which cluster is used, what is installed, and what is refused, each with its sentence."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import yaml

from r1_cluster import providers
from r1_cluster.__main__ import main
from r1_cluster.errors import ClusterError, MissingTool
from r1_cluster.image_build import images, site_packages
from r1_cluster.node import containers
from r1_cluster.node.namespaces import program_name
from r1_cluster.paths import repository_root
from r1_cluster.programs import debian
from r1_cluster.simulated_nodes import build_kwok_node


def test_kubeconfig_alone_is_ignored(tmp_path: Path) -> None:
    production = tmp_path / "production"
    production.touch()
    assert providers.given_kubeconfig({"KUBECONFIG": str(production)}) is None
    meant = {"KUBECONFIG": str(production), "R1_USE_KUBECONFIG": "1"}
    assert providers.given_kubeconfig(meant) == production


def test_an_opted_in_kubeconfig_must_exist() -> None:
    with pytest.raises(ClusterError, match="KUBECONFIG to name one existing file"):
        providers.given_kubeconfig({"R1_USE_KUBECONFIG": "1", "KUBECONFIG": "/nowhere"})


def test_a_given_cluster_refuses_images(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="Push the image to a registry"):
        providers.GivenCluster(tmp_path).load_image(tmp_path / "image.tar")


def test_missing_programs_are_named_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    programs = {"no-such-a": "package-a", "no-such-b": "package-b", "no-such-c": "package-b"}
    with pytest.raises(MissingTool, match="apt-get install package-a package-b$"):
        debian.ensure_packages(programs)


def test_a_user_without_root_gets_an_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingTool, match="sudo, or set R1_USE_KUBECONFIG=1"):
        debian.require_root("A local cluster")


def test_another_python_version_cannot_mount_site_packages() -> None:
    site_packages.check_python((3, 11))
    with pytest.raises(ClusterError, match=r"has Python 3\.13, the thin images 3\.11"):
        site_packages.check_python((3, 13))


def test_site_packages_reach_a_pod_through_a_claim_alone() -> None:
    volume, claim = site_packages.manifests("models", Path("/venv/site-packages"))
    assert volume["spec"]["hostPath"]["path"] == "/venv/site-packages"
    assert volume["spec"]["claimRef"] == {"namespace": "models", "name": claim["metadata"]["name"]}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    spec = site_packages.pod_template()["spec"]
    assert all("hostPath" not in each for each in spec["volumes"])
    assert spec["containers"][0]["name"] == "engine"
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True


def test_an_unknown_image_part_is_refused() -> None:
    with pytest.raises(ClusterError, match="The images are operator, gateway"):
        images.image_name("database")


def test_a_thin_image_has_a_tag_of_its_own() -> None:
    for part in images.PARTS:
        whole, thin = images.image_name(part), images.image_name(part, thin=True)
        assert (thin != whole) == (part in images.THIN_PARTS)


def test_built_images_have_the_registry_localhost() -> None:
    """`--set imageRegistry=localhost` takes them, and no pull of them leaves the node."""
    chart = repository_root() / "helm" / "r1-operator"
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
    for part in images.PARTS:
        assert images.image_name(part) == f"localhost/r1-{part}:{version}"


def test_each_part_has_its_containerfile_and_pins() -> None:
    root = repository_root()
    for part in images.PARTS:
        text = (root / "images" / f"{part}.Containerfile").read_text()
        assert "ARG BASE=python:3.11-slim-bookworm" in text
        assert "USER 65532:65532" in text
        assert "--require-hashes" in text
        allowed = (root / "images" / f"{part}.Containerfile.dockerignore").read_text()
        for line in text.splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                source = line.split()[1]
                assert (root / source).exists()
                assert f"!{source}" in allowed.splitlines()


def test_the_pause_image_is_one_file(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    archive = tmp_path / "pause.tar"
    containers.write_pause_archive(archive, program, "localhost/pause:1")
    with tarfile.open(archive) as outer:
        layer = outer.extractfile("layer.tar")
        assert layer is not None
        with tarfile.open(fileobj=layer) as inner:
            assert [(each.name, each.mode) for each in inner.getmembers()] == [("pause", 0o755)]


def test_simulated_nodes_are_tainted_by_default() -> None:
    tainted = build_kwok_node(1, gpus=8, cpus=4, pods=10, taint=True)
    assert tainted["metadata"]["annotations"] == {"kwok.x-k8s.io/node": "fake"}
    assert tainted["spec"]["taints"][0]["effect"] == "NoSchedule"
    assert build_kwok_node(1, gpus=8, cpus=4, pods=10, taint=False)["spec"] == {}


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/cache/etcd", "--data-dir=x"], "etcd"),
        (["/usr/bin/python3.11", "-I", "-S", "/x/node_init.py", "/state"], "node_init"),
        (["/venv/bin/python", "-m", "r1_cluster.monitoring.pod_targets", "x"], "pod_targets"),
        (["python3", "-c", "pass"], "python3"),
    ],
)
def test_a_process_is_identified_by_its_command(argv: list[str], name: str) -> None:
    assert program_name(argv) == name


def test_command_line_errors_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--name", "No Name"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_a_missing_cluster_is_down(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["status", "--name", "absent", "--json"]) == 1
    assert capsys.readouterr().out == '{"name": "absent", "healthy": false, "state": "Down"}\n'
