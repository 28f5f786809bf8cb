"""Flags of the control plane that runs alone: it can front an aggregated API, and be acted on."""

from __future__ import annotations

from pathlib import Path

from r1_cluster.control_plane.controlplane import (
    ControlPlane,
    apiserver_arguments,
    controller_manager_arguments,
    write_certificates,
)


def values(arguments: list[str]) -> dict[str, str]:
    return dict(argument.split("=", 1) for argument in arguments)


def test_every_file_of_the_api_servers_flags_is_written(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    write_certificates(certs, "127.0.0.1", "10.96.0.1")
    flags = values(
        apiserver_arguments(
            certs, "http://127.0.0.1:1", "127.0.0.1", 2, "10.96.0.0/16", tmp_path / "audit"
        )
    )
    named = [Path(value) for value in flags.values() if value.startswith(str(certs))]
    assert len(named) >= 8
    assert [path for path in named if not path.is_file()] == []


def test_an_aggregated_api_can_authenticate_the_api_server(tmp_path: Path) -> None:
    flags = values(apiserver_arguments(tmp_path, "", "", 0, "", None))
    assert flags["--requestheader-allowed-names"] == "front-proxy-client"
    assert flags["--requestheader-username-headers"] == "X-Remote-User"
    assert flags["--requestheader-client-ca-file"] != flags["--client-ca-file"], (
        "a client of the cluster's own authority could pose as the front proxy"
    )
    assert flags.keys() >= {"--proxy-client-cert-file", "--proxy-client-key-file"}


def test_controllers_run_separately_with_their_own_rights(tmp_path: Path) -> None:
    plane = ControlPlane(tmp_path, tmp_path / "kubeconfig", "https://x", tmp_path / "audit")
    flags = values(controller_manager_arguments(plane, 1, ["deployment-controller", "x"]))
    assert flags["--controllers"] == "deployment-controller,x"
    assert flags["--use-service-account-credentials"] == "true"
    assert Path(flags["--service-account-private-key-file"]).parent == plane.certs
