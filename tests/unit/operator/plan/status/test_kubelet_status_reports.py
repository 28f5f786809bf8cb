"""Statuses as Kubernetes 1.34.4 with containerd 1.6.20 reported them, 45 s after `kubectl apply`.

Each pod comes from a resource with one fault, with this project's own children. Fields without effect
were removed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1_operator.api.v1 import unix_seconds
from r1_operator.plan.snapshot import read_pod
from r1_operator.plan.status.diagnosis import diagnose

SEEN: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("kubelet_statuses.json").read_text()
)


@pytest.mark.parametrize("case", SEEN, ids=lambda case: str(case["name"]))
def test_the_reason_within_thirty_seconds(
    case: dict[str, Any], resource: Any, observed: Any
) -> None:
    inference = resource({"resources": {"limits": {"nvidia.com/gpu": 1}}}, name=case["name"])
    pod = read_pod(case["pod"])
    after = unix_seconds(case["pod"]["metadata"]["creationTimestamp"]) + 30
    problem = diagnose(observed(inference, replicas=1, pods=(pod,)), after)
    assert (None if problem is None else problem.reason) == case["reason"]
