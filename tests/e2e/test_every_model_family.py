"""A tiny checkpoint of every model family, served through the cluster by a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from e2e_helpers import MODELS, ready
from r1_cluster.cluster import LocalCluster
from r1_demo.setup.installation import Installation

pytest.importorskip("transformers")
from family_checkpoints import FAMILIES, MESSAGES, Family, write_family

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CLAIM = "families"
TOKENS = 16
READY_SECONDS = 300


@pytest.fixture(scope="module")
def families(
    installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Family]]:
    """All checkpoints, on a volume of the node, which pods mount by a claim."""
    if not isinstance(installation.cluster, LocalCluster):
        pytest.skip("the node must see this machine's files")
    root = tmp_path_factory.mktemp("families")
    written = {name: write_family(name, root / name) for name in FAMILIES}
    for path in (root, *root.rglob("*")):  # pods have another user
        path.chmod(0o755 if path.is_dir() else 0o644)
    installation.apply(*volume(root))
    yield written
    installation.kubectl("delete", "pvc", CLAIM, "-n", MODELS, "--wait=false")
    installation.kubectl("delete", "pv", CLAIM, "--wait=false")


def volume(folder: Path) -> list[dict[str, Any]]:
    """A read-only volume of a folder, and its claim."""
    shared = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": CLAIM},
            "spec": {
                **shared,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder), "type": "Directory"},
                "claimRef": {"namespace": MODELS, "name": CLAIM},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": MODELS},
            "spec": {
                **shared,
                "volumeName": CLAIM,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    ]


def test_every_family_answers_with_the_text_of_transformers(
    installation: Installation,
    families: dict[str, Family],
    demo_resource: Callable[..., dict[str, Any]],
) -> None:
    manifests = [
        demo_resource(
            name,
            replicas=1,
            model={"source": {"persistentVolumeClaim": {"claimName": CLAIM, "subPath": name}}},
            resources={"requests": {"cpu": "20m", "memory": "200Mi"}},
            runtime={"maxConcurrentSequences": 2},
        )
        for name in families
    ]
    installation.apply(*manifests)
    expected = {name: family.greedy_text(TOKENS) for name, family in families.items()}
    assert len(set(expected.values())) == len(expected)
    client = OpenAI(base_url=f"{installation.gateway_url}/v1", api_key="none", max_retries=0)
    answers: dict[str, str] = {}
    try:
        for name in families:
            ready(installation, name, READY_SECONDS)
            answer = client.chat.completions.create(
                model=name,
                messages=MESSAGES,
                max_tokens=TOKENS,
                temperature=0,
                extra_body={"min_tokens": TOKENS},
            )
            answers[name] = answer.choices[0].message.content or ""
    finally:
        listed = [f"r1inference/{name}" for name in families]
        installation.kubectl("delete", *listed, "-n", MODELS, "--wait=false")
    assert answers == expected
