"""The chart on a real cluster, installed as README says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e_story import MODELS
from r1_cluster import site_packages
from r1_cluster.providers import Cluster
from r1_demo.installation import Installation, install, prepare_namespace

SMALL = {"requests": {"cpu": "50m", "memory": "600Mi"}}


@pytest.fixture(scope="session")
def pinned(cluster: Cluster) -> dict[str, str]:
    """The node selector of real pods: simulated nodes may stand beside the real one."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "-l", "type!=kwok", "-o", "json"))["items"]
    return {"kubernetes.io/hostname": nodes[0]["metadata"]["labels"]["kubernetes.io/hostname"]}


@pytest.fixture(scope="session")
def installation(cluster: Cluster, pinned: dict[str, str]) -> Iterator[Installation]:
    """The chart, installed as README says; taken away at the end."""
    prepare_namespace(cluster, MODELS)
    parts = ("operator", "gateway", "forecaster")
    installed = install(
        cluster,
        lambda line: print(line, file=sys.stderr),
        model_namespaces=(MODELS,),
        values={part: {"nodeSelector": pinned} for part in parts},
    )
    yield installed
    installed.kubectl("delete", "r1", "--all", "-n", MODELS, "--wait=true", "--timeout=60s")
    installed.uninstall()


@pytest.fixture
def demo_resource(pinned: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """A manifest with the bundled model in pods that this machine can carry."""

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
