"""The chart on a real cluster, installed as in the README."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e_helpers import MODELS, VERBATIM, chart_values
from r1_cluster.cluster import LocalCluster
from r1_cluster.image_build import site_packages
from r1_cluster.paths import repository_root
from r1_cluster.providers import Cluster
from r1_cluster.simulated_nodes import add_kwok_nodes
from r1_demo.setup.installation import Installation, install, prepare_namespace

SMALL = {"requests": {"cpu": "50m", "memory": "600Mi"}}


@pytest.fixture(scope="session")
def pinned(cluster: Cluster) -> dict[str, str]:
    """The node selector of real pods: the cluster may have simulated nodes too."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "-l", "type!=kwok", "-o", "json"))["items"]
    return {"kubernetes.io/hostname": nodes[0]["metadata"]["labels"]["kubernetes.io/hostname"]}


@pytest.fixture(scope="session")
def installation(cluster: Cluster, pinned: dict[str, str]) -> Iterator[Installation]:
    """The chart, installed as in the README and uninstalled at the end."""
    prepare_namespace(cluster, MODELS)
    installed = install(
        cluster,
        lambda line: print(line, file=sys.stderr),
        model_namespaces=(MODELS,),
        values=chart_values(pinned),
    )
    yield installed
    if os.environ.get("R1_KEEP_CLUSTER") == "1":  # to inspect the state after a test
        return
    installed.kubectl("delete", "r1", "--all", "-n", MODELS, "--wait=true", "--timeout=60s")
    installed.uninstall()


@pytest.fixture(scope="session")
def simulated(installation: Installation) -> Iterator[Installation]:
    """The README's first manifest, applied early: it cannot scale down for the first five minutes.

    Two simulated nodes have eight GPUs each; every pod may be scheduled on them.
    """
    cluster = installation.cluster
    assert isinstance(cluster, LocalCluster), "simulated nodes need the local cluster's kwok"
    readme = (repository_root() / "README.md").read_text()
    manifest = re.findall(r"```yaml\n(apiVersion.*?)```", readme, re.DOTALL)[0]
    nodes = add_kwok_nodes(cluster.kubectl, 2, gpus=8, taint=False, first=100)
    installation.kubectl("apply", "-f", "-", stdin=manifest)
    yield installation
    installation.kubectl("delete", "r1", VERBATIM, "--ignore-not-found", "--timeout=60s")
    installation.kubectl("delete", "node", *nodes, "--timeout=60s")


@pytest.fixture
def demo_resource(pinned: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Builds a manifest with the bundled model in small pods."""

    def build(name: str, **spec: Any) -> dict[str, Any]:
        template = site_packages.pod_template()
        template["spec"]["nodeSelector"] = pinned
        return {
            "apiVersion": "deepseek.ai/v1",
            "kind": "R1Inference",
            "metadata": {"name": name, "namespace": MODELS},
            "spec": {
                "model": {"source": {"bundled": "demo"}},
                "resources": SMALL,
                "template": template,
                **spec,
            },
        }

    return build
