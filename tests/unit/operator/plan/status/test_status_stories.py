"""Status of a resource through its life."""

from __future__ import annotations

from typing import Any

import pytest

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.names import ForecastApprovalReason
from r1_operator.plan.scaling.decision import Decision, DecisionStep, ForecastContribution
from r1_operator.plan.scaling.forecast_rules.forecast_approval import (
    BacktestTarget,
    ForecastApproval,
    approval_of,
)
from r1_operator.plan.scaling.reasons import DecisionMode
from r1_operator.plan.scaling.reasons import DecisionReason as Why
from r1_operator.plan.snapshot import Observed
from r1_operator.plan.status.resource_status import plan_status

AUTOSCALED = {
    "autoscaling": {
        "minReplicas": 0,
        "maxReplicas": 5,
        "metrics": [{"type": "Concurrency", "target": 4}],
    }
}


def truths(status: dict[str, Any]) -> dict[str, str]:
    """`{type: "status reason"}`."""
    return {one["type"]: f"{one['status']} {one['reason']}" for one in status["conditions"]}


def since(status: dict[str, Any], kind: str) -> str:
    return next(str(c["lastTransitionTime"]) for c in status["conditions"] if c["type"] == kind)


def message(status: dict[str, Any], kind: str) -> str:
    return next(str(c["message"]) for c in status["conditions"] if c["type"] == kind)


def pods_of(pod: Any, count: int, **more: Any) -> tuple[Any, ...]:
    return tuple(pod(f"r1-{index}", **more) for index in range(count))


def test_first_look(resource: Any, observed: Any, now: float) -> None:
    status = plan_status(observed(resource({"replicas": 2})), None, now)
    assert truths(status) == {
        "Ready": "False Applying",
        "Available": "False NoReplicasReady",
        "Progressing": "True Applying",
        "ScalingActive": "False AutoscalingOff",
    }
    assert status["desiredReplicas"] == 2
    assert status["selector"] == "deepseek.ai/r1inference=r1"
    assert status["mode"] == "Manual"
    assert "lastScale" not in status


def test_starting_then_ready(resource: Any, observed: Any, pod: Any, now: float) -> None:
    wanted = resource({"replicas": 2})
    starting = plan_status(observed(wanted, replicas=2, pods=pods_of(pod, 2)), None, now)
    assert truths(starting)["Ready"] == "False WaitingForReplicas"
    assert truths(starting)["Progressing"] == "True Starting"

    one = (pod("r1-0", ready=True), pod("r1-1"))
    half = plan_status(observed(wanted, replicas=2, pods=one), None, now)
    assert truths(half)["Available"] == "True Serving"
    assert truths(half)["Progressing"] == "True ScalingUp"
    assert message(half, "Ready") == "1 of 2 replicas is ready."

    done = plan_status(observed(wanted, replicas=2, pods=pods_of(pod, 2, ready=True)), None, now)
    assert truths(done) == {
        "Ready": "True AllReplicasReady",
        "Available": "True Serving",
        "Progressing": "False UpToDate",
        "ScalingActive": "False AutoscalingOff",
    }
    counts = ("replicas", "readyReplicas", "availableReplicas", "updatedReplicas")
    assert [done[count] for count in counts] == [2, 2, 2, 2]


def test_scaling_down_stays_ready(
    resource: Any, observed: Any, pod: Any, decision: Any, now: float
) -> None:
    wanted = resource(AUTOSCALED, status={"desiredReplicas": 3})
    before = observed(wanted, replicas=3, pods=pods_of(pod, 3, ready=True))
    status = plan_status(before, decision(2, reason=Why.STABILIZED), now)
    assert truths(status)["Ready"] == "True AllReplicasReady"
    assert truths(status)["Progressing"] == "True ScalingDown"
    assert status["lastScale"]["from"] == 3
    assert status["lastScale"]["to"] == 2
    assert status["lastScale"]["reason"] == "Stabilized"

    draining = (*pods_of(pod, 2, ready=True), pod("r1-9", ready=True, deleted=True))
    leaving = plan_status(observed(wanted, replicas=2, pods=draining), decision(2), now)
    assert leaving["replicas"] == 3
    assert leaving["availableReplicas"] == 2
    assert truths(leaving)["Ready"] == "True AllReplicasReady"


def test_a_new_spec_is_not_ready_by_the_old_pods(
    resource: Any, observed: Any, pod: Any, now: float
) -> None:
    """`kubectl apply` and `kubectl wait` right after it: the old pods must not count."""
    old = resource({"replicas": 2})
    new = resource({"replicas": 2, "runtime": {"maxConcurrentSequences": 9}}, generation=2)
    applied_old = observed(old, replicas=2, pods=pods_of(pod, 2, ready=True))
    behind = Observed(new, applied_old.defaults, applied_old.deployment, pods=applied_old.pods)
    status = plan_status(behind, None, now)
    assert truths(status)["Ready"] == "False Applying"
    assert truths(status)["Available"] == "True Serving"
    assert {one["observedGeneration"] for one in status["conditions"]} == {2}

    unseen = observed(new, replicas=2, pods=pods_of(pod, 2, ready=True), generation_observed=False)
    assert truths(plan_status(unseen, None, now))["Ready"] == "False Applying"

    rolling = observed(new, replicas=2, pods=pods_of(pod, 3, ready=True), updated=1)
    status = plan_status(rolling, None, now)
    assert truths(status)["Ready"] == "False RollingOut"
    assert truths(status)["Progressing"] == "True RollingOut"


def test_asleep_is_ready(resource: Any, observed: Any, decision: Any, now: float) -> None:
    status = plan_status(
        observed(resource(AUTOSCALED), replicas=0), decision(0, reason=Why.IDLE), now
    )
    assert truths(status)["Ready"] == "True ScaledToZero"
    assert truths(status)["Available"] == "False ScaledToZero"
    assert truths(status)["Progressing"] == "False UpToDate"


def test_a_problem_is_reported_and_cleared_when_it_ends(
    resource: Any, observed: Any, pod: Any, now: float
) -> None:
    crash = {"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    wanted = resource({"replicas": 1})
    broken = plan_status(observed(wanted, replicas=1, pods=(pod(container=crash),)), None, now)
    assert truths(broken)["Ready"] == "False ImagePullFailed"
    assert truths(broken)["Degraded"] == "True ImagePullFailed"
    assert message(broken, "Ready") == message(broken, "Degraded")

    fixed = resource({"replicas": 1}, status=broken)
    healed = plan_status(observed(fixed, replicas=1, pods=(pod(ready=True),)), None, now + 60)
    assert "Degraded" not in truths(healed)
    assert truths(healed)["Ready"] == "True AllReplicasReady"


def test_a_failed_rollout_leaves_the_old_serving(
    resource: Any, observed: Any, pod: Any, now: float
) -> None:
    crash = {"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}
    stood = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    pods = (*pods_of(pod, 2, ready=True), pod("r1-new", container=crash))
    current = observed(
        resource({"replicas": 2}), replicas=2, pods=pods, updated=1, conditions=[stood]
    )
    assert truths(plan_status(current, None, now)) == {
        "Ready": "False ImagePullFailed",
        "Available": "True Serving",
        "Progressing": "False DeadlineExceeded",
        "ScalingActive": "False AutoscalingOff",
        "Degraded": "True ImagePullFailed",
    }


def test_times_move_only_with_the_status(
    resource: Any, observed: Any, pod: Any, now: float
) -> None:
    first = plan_status(observed(resource({"replicas": 1}), replicas=1, pods=(pod(),)), None, now)
    waiting = resource({"replicas": 1}, status=first)
    second = plan_status(observed(waiting, replicas=1, pods=(pod(),)), None, now + 100)
    assert second == first

    ready = plan_status(observed(waiting, replicas=1, pods=(pod(ready=True),)), None, now + 200)
    assert since(ready, "Ready") != since(first, "Ready")
    assert since(ready, "ScalingActive") == since(first, "ScalingActive")


def test_missing_metrics_are_a_condition_whose_words_stay(
    resource: Any, observed: Any, pod: Any, decision: Any, now: float
) -> None:
    pods = pods_of(pod, 3, ready=True)

    def blind(words: str) -> Decision:
        hold = DecisionStep("metrics", 3, 3, Why.METRICS_UNAVAILABLE, words)
        made: Decision = decision(
            3, reason=Why.AT_MIN_REPLICAS, message="At least 3.", steps=(hold,)
        )
        return made

    first = plan_status(
        observed(resource(AUTOSCALED), replicas=3, pods=pods), blind("No answer for 5 s."), now
    )
    assert truths(first)["ScalingActive"] == "False MetricsUnavailable"
    assert message(first, "ScalingActive") == "No answer for 5 s."
    again = resource(AUTOSCALED, status=first)
    later = plan_status(
        observed(again, replicas=3, pods=pods), blind("No answer for 6 s."), now + 1
    )
    assert later == first, "a figure in a message is no reason to write"

    seeing = plan_status(observed(again, replicas=3, pods=pods), decision(3), now + 2)
    assert truths(seeing)["ScalingActive"] == "True MetricsAvailable"


def test_limits_and_forecasts_speak_only_while_true(
    resource: Any, observed: Any, pod: Any, decision: Any, now: float
) -> None:
    current = observed(resource(AUTOSCALED), replicas=5, pods=pods_of(pod, 5, ready=True))
    note = ForecastContribution(
        False, None, "none", Unavailable("Training", "The model is being trained.")
    )
    made = decision(
        5,
        reason=Why.AT_MAX_REPLICAS,
        message="7 replicas wanted.",
        mode=DecisionMode.PREDICTIVE,
        forecast=note,
    )
    status = plan_status(current, made, now)
    assert truths(status)["ScalingLimited"] == "True AtMaxReplicas"
    assert truths(status)["ForecastUnavailable"] == "True Training"
    assert status["mode"] == "Predictive"
    calm = plan_status(current, decision(5), now)
    assert not {"ScalingLimited", "ForecastUnavailable"} & set(truths(calm))


def test_a_rejecting_backtest_is_a_condition_with_the_action(
    resource: Any, observed: Any, pod: Any, decision: Any, now: float
) -> None:
    current = observed(resource(AUTOSCALED), replicas=5, pods=pods_of(pod, 5, ready=True))
    missing = approval_of(BacktestTarget("november", "chat", "h"), None, now)
    status = plan_status(current, decision(5, forecast_approval=missing), now)
    assert truths(status)["ForecastNotApproved"] == "True BacktestMissing"
    shown_message = next(
        one["message"] for one in status["conditions"] if one["type"] == "ForecastNotApproved"
    )
    assert "create it" in shown_message
    good = ForecastApproval(True, ForecastApprovalReason.BACKTEST_PASSED, "It found it cheaper.")
    assert "ForecastNotApproved" not in truths(
        plan_status(current, decision(5, forecast_approval=good), now)
    )


def test_the_last_scale_stays_in_the_status(
    resource: Any, observed: Any, pod: Any, decision: Any, now: float
) -> None:
    pods = pods_of(pod, 2, ready=True)
    first = plan_status(
        observed(resource(AUTOSCALED, status={"desiredReplicas": 1}), replicas=2, pods=pods),
        decision(2, reason=Why.REAL_TIME_DEMAND),
        now,
    )
    assert first["lastScale"]["at"] == "2027-01-15T08:00:00Z"
    later = plan_status(
        observed(resource(AUTOSCALED, status=first), replicas=2, pods=pods), decision(2), now + 5
    )
    assert later["lastScale"] == first["lastScale"]


@pytest.mark.parametrize("replicas", [None, 0, 1, 3])
def test_the_conditions_that_are_always_there(
    replicas: int | None, resource: Any, observed: Any, now: float
) -> None:
    status = plan_status(observed(resource({"replicas": 3}), replicas=replicas), None, now)
    kinds = [one["type"] for one in status["conditions"]]
    assert kinds[:4] == ["Ready", "Available", "Progressing", "ScalingActive"]
    assert next(iter(status)) == "conditions"
