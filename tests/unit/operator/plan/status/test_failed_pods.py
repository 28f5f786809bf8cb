"""Pods that the kubelet rejected or evicted are reported until the replicas are ready again."""

from __future__ import annotations

from typing import Any

import pytest

from r1_operator.plan.snapshot import Pod, read_pod
from r1_operator.plan.status.conditions import rfc3339
from r1_operator.plan.status.resource_status import plan_status

NOW = 1_800_000_000.0
Json = dict[str, Any]
PLUGIN = (
    "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices "
    "nvidia.com/gpu, which is unexpected"
)
CAUSES = [
    ("UnexpectedAdmissionError", PLUGIN, "device plugin"),
    ("Evicted", "The node was low on resource: ephemeral-storage.", "requests"),
    ("OutOfcpu", "Node didn't have enough resource: cpu", "had less free"),
    ("OutOfnvidia.com/gpu", "Node didn't have enough resource: nvidia.com/gpu", "had less free"),
    ("NodeAffinity", "Predicate NodeAffinity failed", "nodeSelector"),
    ("TopologyAffinityError", "Resources cannot be allocated with Topology locality", "Topology"),
    ("NodeShutdown", "Pod was rejected because the node is shutting down.", "shut down"),
    ("Preempting", "Preempted in order to admit critical pod", "priority"),
    ("SomethingNew", "No known words.", ""),
]


def failed(number: int, reason: str, words: str, ago: float = 60.0, **more: Any) -> Pod:
    return read_pod(
        {
            "metadata": {
                "name": f"r1-{number}",
                "uid": str(number),
                "creationTimestamp": rfc3339(NOW - ago),
                **more,
            },
            "spec": {"nodeName": f"node-{number % 5}"},
            "status": {
                "phase": "Failed",
                "reason": reason,
                "message": words,
                "startTime": rfc3339(NOW - ago),
            },
        }
    )


def living(name: str, *, ready: bool, ago: float = 30.0) -> Pod:
    truth = {
        "type": "Ready",
        "status": str(ready),
        "lastTransitionTime": rfc3339(NOW - ago),
    }
    status = {"phase": "Running" if ready else "Pending", "conditions": [truth]}
    metadata = {"name": name, "uid": name, "creationTimestamp": rfc3339(NOW - ago)}
    return read_pod({"metadata": metadata, "status": status})


def conditions(resource: Any, observed: Any, pods: list[Pod], replicas: int = 2) -> dict[str, Json]:
    snapshot = observed(resource({"replicas": replicas}), replicas=replicas, pods=tuple(pods))
    return {one["type"]: one for one in plan_status(snapshot, None, NOW)["conditions"]}


@pytest.mark.parametrize(("reason", "words", "remedy"), CAUSES)
@pytest.mark.parametrize("pending", [0, 1, 2])
def test_forty_rejected_pods(
    reason: str, words: str, remedy: str, pending: int, resource: Any, observed: Any
) -> None:
    """Whether or not the ReplicaSet has created the next rejected pod."""
    pods = [failed(n, reason, words) for n in range(40)]
    pods += [living(f"new-{n}", ready=False, ago=1.0) for n in range(pending)]
    by_type = conditions(resource, observed, pods)
    message = by_type["Degraded"]["message"]
    assert by_type["Degraded"]["reason"] == "PodsFailed"
    assert by_type["Ready"]["status"] == "False"
    assert f"40 pods have failed (40 {reason})" in message
    assert words.rstrip(".") in message
    assert remedy in message
    assert "node-0" in message
    assert "2 more nodes" in message
    assert "status.phase=Failed" in message


def test_kinds_of_failures_are_counted_apart(resource: Any, observed: Any) -> None:
    pods = [failed(n, "Evicted", "low on memory") for n in range(3)]
    pods += [failed(n, "OutOfcpu", "no cpu") for n in range(3, 5)]
    message = conditions(resource, observed, pods)["Degraded"]["message"]
    assert "5 pods have failed (3 Evicted, 2 OutOfcpu)" in message
    assert "low on memory" in message


def test_a_resource_that_serves_is_not_degraded_by_the_past(resource: Any, observed: Any) -> None:
    pods = [failed(n, "Evicted", "x", ago=300.0) for n in range(40)]
    pods += [living(name, ready=True) for name in ("a", "b")]
    by_type = conditions(resource, observed, pods)
    assert "Degraded" not in by_type
    assert by_type["Ready"]["status"] == "True"


def test_a_rise_after_the_repair_is_not_degraded_by_the_past(resource: Any, observed: Any) -> None:
    pods = [failed(n, "Evicted", "x", ago=300.0) for n in range(40)]
    pods += [living("a", ready=True, ago=200.0), living("b", ready=False, ago=5.0)]
    assert "Degraded" not in conditions(resource, observed, pods)


def test_a_wake_after_a_day_is_not_degraded_by_the_past(resource: Any, observed: Any) -> None:
    pods = [failed(n, "Evicted", "x", ago=90_000.0) for n in range(40)]
    pods += [living(name, ready=False, ago=5.0) for name in ("a", "b")]
    assert "Degraded" not in conditions(resource, observed, pods)


def test_one_eviction_that_is_replaced_is_the_ordinary_repair(resource: Any, observed: Any) -> None:
    pods = [failed(0, "Evicted", "x"), living("a", ready=True, ago=900.0)]
    assert "Degraded" not in conditions(resource, observed, [*pods, living("b", ready=False)])
    assert "Degraded" in conditions(resource, observed, pods)


def test_some_replicas_serve_and_the_others_are_rejected(resource: Any, observed: Any) -> None:
    pods = [living("a", ready=True, ago=900.0), living("b", ready=False, ago=1.0)]
    pods += [failed(n, "UnexpectedAdmissionError", PLUGIN) for n in range(12)]
    by_type = conditions(resource, observed, pods)
    assert "12 pods have failed" in by_type["Degraded"]["message"]
    assert by_type["Available"]["status"] == "True"


def test_failed_pods_that_leave_do_not_count(resource: Any, observed: Any) -> None:
    pods = [failed(n, "Evicted", "x", deletionTimestamp=rfc3339(NOW)) for n in range(40)]
    assert "Degraded" not in conditions(resource, observed, pods)
