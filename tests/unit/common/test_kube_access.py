"""The API server and its credentials, found in a pod or by a kubeconfig."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1_common.kube import access

POD = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}


def test_api_server_url_of_a_pod() -> None:
    assert access.api_server_url(POD) == "https://[fd00::1]:6443"
    assert access.api_server_url({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) == "https://10.0.0.1:443"
    with pytest.raises(access.NoCluster, match="KUBERNETES_SERVICE_HOST is not set"):
        access.api_server_url({})


async def test_pod_without_a_service_account_is_reported_with_the_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path)
    with pytest.raises(access.NoCluster, match="automountServiceAccountToken, or use --config"):
        await access.find_access(POD, hint=", or use --config FILE")


async def test_missing_kubeconfig_is_reported_with_its_path(tmp_path: Path) -> None:
    missing = tmp_path / "config"
    with pytest.raises(access.NoCluster, match=f"there is no {missing}"):
        await access.find_access(POD | {"KUBECONFIG": str(missing)})


async def test_kubeconfig_has_precedence_over_the_service_account(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: c,"
        " clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1/'}}],"
        " users: [{name: u, user: {token: secret}}],"
        " contexts: [{name: c, context: {cluster: k, user: u}}]}"
    )
    cluster_access = await access.find_access(POD | {"KUBECONFIG": str(config)})
    assert (cluster_access.url, cluster_access.tls) == ("http://127.0.0.1:1", True)
    assert await cluster_access.headers() == {"Authorization": "Bearer secret"}
