"""`r1 status` and `r1 explain` as a user runs them, on a real API server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from r1_bench.operator_lab import resource
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import R1INFERENCE

pytestmark = pytest.mark.apiserver


def r1(kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `r1`."""
    code = "import sys; from r1_operator.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_status_lists_what_is_there_and_finds_what_is_not(
    api: Api, apiserver: Path, namespace: str
) -> None:
    await api.create(R1INFERENCE, namespace, resource("listed", namespace, replicas=2))
    listed = r1(apiserver, "status", "-n", namespace, "--json")
    assert listed.returncode == 0, listed.stderr
    assert [one["metadata"]["name"] for one in json.loads(listed.stdout)] == ["listed"]
    table = r1(apiserver, "status", "-n", namespace)
    assert "listed" in table.stdout
    assert "not seen yet" in table.stdout, "no operator has been here"
    missing = r1(apiserver, "status", "other", "-n", namespace)
    assert missing.returncode == 3
    unexplained = r1(apiserver, "explain", "other", "-n", namespace)
    assert unexplained.returncode == 3
    assert "there is no R1Inference" in unexplained.stderr
