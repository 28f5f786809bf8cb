"""Children and status together: every observation gives a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from r1_operator.plan.resource_plan import plan
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.snapshot import Observed
from r1_operator.plan.status.resource_status import plan_status

KINDS = ["ConfigMap", "Service", "PodDisruptionBudget", "Deployment"]


def reason(status: dict[str, Any], kind: str) -> str:
    return next(str(one["reason"]) for one in status["conditions"] if one["type"] == kind)


def status_of(observed: Observed, decision: Decision | None, now: float) -> dict[str, Any]:
    """The status after the children of the plan were applied, or its problem."""
    return plan_status(observed, decision, now, unplannable=plan(observed, decision, now).problem)


def test_everything_is_made_and_owned(resource: Any, observed: Any, now: float) -> None:
    made = plan(observed(resource({"replicas": 3})), None, now)
    assert [child["kind"] for child in made.children] == KINDS
    assert made.children[-1]["spec"]["replicas"] == 3
    for child in made.children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["controller"] is True
        assert owner["uid"] == resource().uid
        assert child["metadata"]["labels"]["deepseek.ai/r1inference"] == "r1"


def test_the_monitor_comes_where_its_api_exists(resource: Any, observed: Any, now: float) -> None:
    snapshot = observed(resource(), has_service_monitors=True)
    kinds = [child["kind"] for child in plan(snapshot, None, now).children]
    assert kinds == [*KINDS[:3], "ServiceMonitor", "Deployment"]


def test_the_decision_sets_the_count(
    resource: Any, observed: Any, decision: Any, now: float
) -> None:
    seen = observed(resource({"replicas": 3}))
    assert plan(seen, decision(7), now).children[-1]["spec"]["replicas"] == 7
    assert status_of(seen, decision(7), now)["desiredReplicas"] == 7


def test_before_the_first_decision_the_present_count_stays(
    resource: Any, observed: Any, now: float
) -> None:
    """An operator that restarts under load changes nothing before it has read the load."""
    scaled = {
        "replicas": 1,
        "autoscaling": {"maxReplicas": 9, "metrics": [{"type": "Concurrency", "target": 4}]},
    }
    made = plan(observed(resource(scaled), replicas=6), None, now)
    assert made.children[-1]["spec"]["replicas"] == 6


def test_a_template_that_cannot_be_merged_stops_nothing_that_runs(
    resource: Any, observed: Any, pod: Any, now: float
) -> None:
    bad = resource({"template": {"spec": {"containers": [{"image": "x"}]}}})
    good = observed(resource(), replicas=1, pods=(pod(ready=True),))
    seen = replace(good, resource=bad)
    assert plan(seen, None, now).children == ()
    status = status_of(seen, None, now)
    assert reason(status, "Ready") == "InvalidSpec"
    assert reason(status, "Degraded") == "InvalidSpec"
    assert reason(status, "Available") == "Serving"


def test_a_child_with_another_owner_is_not_changed(
    resource: Any, observed: Any, now: float
) -> None:
    foreign = {"kind": "Service", "metadata": {"name": "r1", "labels": {}}}
    seen = observed(resource(), service=foreign)
    assert plan(seen, None, now).children == ()
    status = status_of(seen, None, now)
    assert reason(status, "Ready") == "ChildNotOwned"
    assert reason(status, "Progressing") == "ChildNotOwned"
