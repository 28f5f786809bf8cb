"""`r1 status` and `r1 explain` as a user runs them, on a real API server."""

import asyncio
import json
from pathlib import Path

import pytest

from r1_bench.operator_scale.testbed import resource
from r1_operator.cli import main
from r1_operator.kube.client import Api
from r1_operator.kube.kinds import R1INFERENCE

pytestmark = pytest.mark.apiserver


async def test_status_lists_what_is_there_and_finds_what_is_not(
    api: Api,
    apiserver: Path,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(apiserver))

    async def r1(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    await api.create(R1INFERENCE, namespace, resource("listed", namespace, replicas=2))
    code, out, _ = await r1("status", "-n", namespace, "--json")
    assert code == 0
    assert [one["metadata"]["name"] for one in json.loads(out)] == ["listed"]
    code, out, _ = await r1("status", "-n", namespace)
    assert "listed" in out
    assert "no status yet" in out, "no operator has been here"
    code, _, _ = await r1("status", "other", "-n", namespace)
    assert code == 3
    code, _, stderr = await r1("explain", "other", "-n", namespace)
    assert code == 3
    assert "does not exist" in stderr
