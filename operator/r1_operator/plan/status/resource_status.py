"""From what is observed to the status that people read.

Ready is the summary: the wished number of replicas of the newest spec serves (or the
resource sleeps on purpose). Available says that somebody serves at all. Degraded is there
only while something needs a person.
"""

from typing import Any

from r1_operator.api.names import ConditionReason, ConditionType
from r1_operator.plan.problem import Problem
from r1_operator.plan.scaling.budgets import ceilings_of
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.policy import lowest
from r1_operator.plan.scaling.reasons import DecisionMode
from r1_operator.plan.scaling.reasons import DecisionReason as Why
from r1_operator.plan.snapshot import ABSENT, Observed
from r1_operator.plan.status.child_failures import failed_children
from r1_operator.plan.status.conditions import ConditionUpdate, rfc3339, with_times
from r1_operator.plan.status.container_failures import crash_loops
from r1_operator.plan.status.diagnosis import diagnose
from r1_operator.plan.status.rollout_progress import RolloutProgress, rollout_progress
from r1_operator.plan.workload.metadata import selector_text


def desired_replicas(observed: Observed, decision: Decision | None) -> int:
    """The decision's count; before the first one the present count, or spec.replicas.

    What it starts with has to fit into the budgets too, which no decision has seen yet.
    """
    if decision is not None:
        return decision.replicas
    if observed.deployment is not ABSENT:
        present = (observed.deployment.get("spec") or {}).get("replicas")
        if isinstance(present, int):
            return present
    elif "Deployment" in observed.unread:
        before = observed.resource.status.get("desiredReplicas")
        if isinstance(before, int):
            return before
    spec = observed.resource.spec
    budget = lowest(ceilings_of(spec, observed.defaults))
    return spec.replicas if budget is None else min(spec.replicas, budget.replicas)


def plan_status(
    observed: Observed,
    decision: Decision | None,
    now: float,
    *,
    unplannable: Problem | None = None,
) -> dict[str, Any]:
    """The whole `status`. `unplannable` is why no children could be made, if so.

    `now` is the process' clock (seconds); times that are written are the wall clock's.
    """
    resource = observed.resource
    desired = desired_replicas(observed, decision)
    state = rollout_progress(observed, desired)
    problem = unplannable or failed_children(observed)
    if problem is None:
        problem = crash_loops(observed, now) if state.settled else diagnose(observed, now)
    verdicts = [
        _ready(state, problem),
        _available(state),
        _progressing(observed, state, problem),
        _scaling_active(observed, decision),
        *_degraded(problem),
        *_names(observed),
        *_load(decision),
    ]
    before = resource.status
    status: dict[str, Any] = {
        "conditions": with_times(
            verdicts,
            before.get("conditions") or (),
            resource.generation,
            now + observed.wall_offset,
        ),
        "observedGeneration": resource.generation,
        "replicas": state.replicas,
        "desiredReplicas": desired,
        "readyReplicas": state.ready,
        "availableReplicas": state.available,
        "updatedReplicas": state.updated,
        "selector": selector_text(resource),
        "mode": (decision.mode if decision else _mode(observed)).value,
    }
    last_scale = _last_scale(observed, decision)
    return status | ({"lastScale": last_scale} if last_scale else {})


def _ready(state: RolloutProgress, problem: Problem | None) -> ConditionUpdate:
    if problem is not None and not state.complete:
        return ConditionUpdate(ConditionType.READY, "False", problem.reason, problem.message)
    if problem is not None and problem.reason in REFUSING:
        return ConditionUpdate(ConditionType.READY, "False", problem.reason, problem.message)
    if state.complete and state.desired == 0:
        return ConditionUpdate(
            ConditionType.READY,
            "True",
            ConditionReason.SCALED_TO_ZERO,
            "No replica is wanted now; none runs.",
        )
    if state.complete:
        return ConditionUpdate(
            ConditionType.READY,
            "True",
            ConditionReason.ALL_REPLICAS_READY,
            f"All {_replicas(state.desired)} of the newest spec can serve.",
        )
    if not state.current:
        return ConditionUpdate(ConditionType.READY, "False", ConditionReason.APPLYING, APPLYING)
    if state.rolling:
        return ConditionUpdate(
            ConditionType.READY, "False", ConditionReason.ROLLING_OUT, _rolled(state)
        )
    return ConditionUpdate(
        ConditionType.READY,
        "False",
        ConditionReason.WAITING_FOR_REPLICAS,
        f"{state.available} of {_replicas(state.desired)} can serve.",
    )


APPLYING = "The newest spec is being applied."

REFUSING = (
    ConditionReason.INVALID_SPEC,
    ConditionReason.MODEL_SOURCE_UNUSABLE,
    ConditionReason.TOO_MANY_ACCELERATORS,
    ConditionReason.CHILD_NOT_OWNED,
    ConditionReason.CHILD_REJECTED,
    ConditionReason.CHILD_NOT_APPLIED,
    ConditionReason.MANIFEST_BUILD_FAILED,
)
"""The newest spec is not what runs, whatever the counts say."""


def _available(state: RolloutProgress) -> ConditionUpdate:
    if state.available:
        return ConditionUpdate(
            ConditionType.AVAILABLE,
            "True",
            ConditionReason.SERVING,
            "At least one replica can serve.",
        )
    if state.desired == 0:
        message = "No replica is wanted now; the first request wakes one if minReplicas is 0."
        return ConditionUpdate(
            ConditionType.AVAILABLE, "False", ConditionReason.SCALED_TO_ZERO, message
        )
    return ConditionUpdate(
        ConditionType.AVAILABLE, "False", ConditionReason.NO_REPLICAS_READY, "No replica can serve."
    )


def _progressing(
    observed: Observed, state: RolloutProgress, problem: Problem | None
) -> ConditionUpdate:
    def verdict(status: bool, reason: ConditionReason, message: str) -> ConditionUpdate:
        return ConditionUpdate(
            ConditionType.PROGRESSING, "True" if status else "False", reason, message
        )

    if problem is not None and problem.reason in REFUSING:
        return verdict(False, problem.reason, problem.message)
    if state.deadline_exceeded and not state.complete:
        seconds = observed.resource.spec.rollout.progress_deadline_seconds
        message = f"Nothing moved for {seconds} s (spec.rollout.progressDeadlineSeconds)."
        return verdict(False, ConditionReason.DEADLINE_EXCEEDED, message)
    if state.settled:
        return verdict(False, ConditionReason.UP_TO_DATE, "Everything is as it should be.")
    if not state.current:
        return verdict(True, ConditionReason.APPLYING, APPLYING)
    if state.rolling:
        return verdict(True, ConditionReason.ROLLING_OUT, _rolled(state))
    if state.replicas > state.desired:
        message = f"{_replicas(state.replicas)} exist, {state.desired} are wanted."
        return verdict(True, ConditionReason.SCALING_DOWN, message)
    message = f"{state.available} of {_replicas(state.desired)} can serve."
    return verdict(
        True, ConditionReason.SCALING_UP if state.available else ConditionReason.STARTING, message
    )


def _scaling_active(observed: Observed, decision: Decision | None) -> ConditionUpdate:
    kind = ConditionType.SCALING_ACTIVE
    if observed.resource.spec.autoscaling is None:
        message = "spec.autoscaling is absent: spec.replicas sets the count."
        return ConditionUpdate(kind, "False", ConditionReason.AUTOSCALING_OFF, message)
    if decision is None:
        return ConditionUpdate(
            kind, "Unknown", ConditionReason.DECISION_PENDING, "No decision has been made yet."
        )
    if not decision.metrics_available:
        return ConditionUpdate(
            kind, "False", Why.METRICS_UNAVAILABLE, _blindness(decision), steady=True
        )
    return ConditionUpdate(
        kind, "True", ConditionReason.METRICS_AVAILABLE, "The load is known and sets the count."
    )


def _blindness(decision: Decision) -> str:
    """The words of the rule that missed the metrics; a later one may have set the count."""
    words = (one.message for one in decision.steps if one.reason is Why.METRICS_UNAVAILABLE)
    return next(words, decision.message)


def _degraded(problem: Problem | None) -> list[ConditionUpdate]:
    if problem is None:
        return []
    return [ConditionUpdate(ConditionType.DEGRADED, "True", problem.reason, problem.message)]


def _names(observed: Observed) -> list[ConditionUpdate]:
    """A resource serves all the same: `namespace/name` always reaches it."""
    lost, resource = observed.lost_names, observed.resource
    if not lost:
        return []
    taken = ", ".join(f"{name} reaches {owner}" for name, owner in sorted(lost.items()))
    own = resource.name in lost
    remedy = "Choose another alias."
    if own:
        remedy = f"Use {resource.key} as the model name, or rename one of the two resources."
    reason = ConditionReason.NAME_TAKEN if own else ConditionReason.ALIAS_TAKEN
    message = f"Model names of other resources at the gateways: {taken}. {remedy}"
    return [ConditionUpdate(ConditionType.MODEL_NAME_CONFLICT, "True", reason, message)]


def _load(decision: Decision | None) -> list[ConditionUpdate]:
    verdicts: list[ConditionUpdate] = []
    if decision is not None and decision.limited:
        verdicts.append(
            ConditionUpdate(
                ConditionType.SCALING_LIMITED,
                "True",
                decision.reason.value,
                decision.message,
                steady=True,
            )
        )
    note = decision.forecast if decision is not None else None
    if note is not None and note.unavailable is not None:
        verdicts.append(
            ConditionUpdate(
                ConditionType.FORECAST_UNAVAILABLE,
                "True",
                note.unavailable.reason,
                note.unavailable.message,
                steady=True,
            )
        )
    proof = decision.proof if decision is not None else None
    if proof is not None and not proof.acts:
        verdicts.append(
            ConditionUpdate(
                ConditionType.FORECAST_NOT_APPROVED, "True", proof.reason.value, proof.message
            )
        )
    return verdicts


def _last_scale(observed: Observed, decision: Decision | None) -> dict[str, Any] | None:
    before = observed.resource.status.get("desiredReplicas")
    if decision is None or before is None or before == decision.replicas:
        last = observed.resource.status.get("lastScale")
        return dict(last) if last else None
    return {
        "at": rfc3339(decision.at + observed.wall_offset),
        "from": before,
        "to": decision.replicas,
        "reason": decision.reason.value,
        "message": decision.message,
    } | _seats_held_back(decision)


def _seats_held_back(decision: Decision) -> dict[str, int]:
    """Of all gateways, for all promised classes together; nothing where that is not known."""
    held = decision.holdback
    if not isinstance(held, tuple):
        return {}
    return {"seatsReserved": max((one.seats for one in held), default=0)}


def _mode(observed: Observed) -> DecisionMode:
    return (
        DecisionMode.MANUAL if observed.resource.spec.autoscaling is None else DecisionMode.REACTIVE
    )


def _rolled(state: RolloutProgress) -> str:
    return f"{state.updated} of {_replicas(state.desired)} are of the newest spec."


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"
