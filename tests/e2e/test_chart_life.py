"""Install, upgrade and uninstall of the chart; resources of users stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e_helpers import MODELS, chart_values, ready
from r1_cluster.errors import ClusterError
from r1_demo.setup.installation import RELEASE, Installation, chart, helm, install

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_unknown_chart_value_is_rejected_by_name(installation: Installation) -> None:
    with pytest.raises(ClusterError, match="replicaCount"):
        helm(installation.cluster, "upgrade", RELEASE, str(chart()),
             "--reuse-values", "--set", "operator.replicaCount=2")  # fmt: skip


def test_helm_test_passes(installation: Installation) -> None:
    helm(installation.cluster, "test", RELEASE)


def test_uninstall_keeps_resources_and_pods_and_a_new_install_adopts_them(
    installation: Installation,
    demo_resource: Callable[..., dict[str, Any]],
    pinned: dict[str, str],
) -> None:
    installation.apply(demo_resource("keeper", replicas=1))
    ready(installation, "keeper")

    def pods() -> set[str]:
        selector = ("-n", MODELS, "-l", "deepseek.ai/r1inference=keeper")
        return {pod["metadata"]["uid"] for pod in installation.get("pods", *selector)["items"]}

    before = pods()
    installation.uninstall()
    resource = installation.get("r1", "keeper", "-n", MODELS)
    assert resource["spec"]["replicas"] == 1
    assert pods() == before

    again = chart_values(pinned)
    install(installation.cluster, print, model_namespaces=(MODELS,), values=again)
    ready(installation, "keeper")
    assert pods() == before, "a new operator restarted a model pod"
    installation.kubectl("delete", "r1", "keeper", "-n", MODELS)
