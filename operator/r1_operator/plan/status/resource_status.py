"""Status of a resource from its snapshot and decision.

Ready is the summary: all desired replicas of the newest spec are ready, or the resource is scaled to
zero. Available: at least one replica is ready. Degraded is present only while a person has to act.
"""

from typing import Any

from r1_operator.api.names import ConditionReason, ConditionType
from r1_operator.plan.problem import Problem
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.scaling.policy import tightest
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
    """Return the decision's count; before the first decision the present count, or spec.replicas.

    The initial count is limited by the budgets too, because no decision has applied them yet.
    """
    if decision is not None:
        return decision.replicas
    if observed.deployment is not ABSENT:
        present = (observed.deployment.get("spec") or {}).get("replicas")
        if isinstance(present, int):
            return present
    elif "Deployment" in observed.unread_kinds:
        before = observed.resource.status.get("desiredReplicas")
        if isinstance(before, int):
            return before
    spec = observed.resource.spec
    budget = tightest(ceilings_of(spec, observed.defaults))
    return spec.replicas if budget is None else min(spec.replicas, budget.replicas)


def plan_status(
    observed: Observed,
    decision: Decision | None,
    now: float,
    *,
    unplannable: Problem | None = None,
) -> dict[str, Any]:
    """Return the whole `status`. `unplannable`: why the children could not be built.

    `now`: the process' clock (seconds); the status has wall clock times.
    """
    resource = observed.resource
    desired = desired_replicas(observed, decision)
    state = rollout_progress(observed, desired)
    problem = unplannable or failed_children(observed)
    if problem is None:
        problem = crash_loops(observed, now) if state.settled else diagnose(observed, now)
    updates = [
        _ready(state, problem),
        _available(state),
        _progressing(observed, state, problem),
        _scaling_active(observed, decision),
        *_degraded(problem),
        *_name_conflict(observed),
        *_scaling(decision),
    ]
    before = resource.status
    status: dict[str, Any] = {
        "conditions": with_times(
            updates,
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
    if problem is not None and problem.reason in NOT_APPLIED_REASONS:
        return ConditionUpdate(ConditionType.READY, "False", problem.reason, problem.message)
    if state.complete and state.desired == 0:
        return ConditionUpdate(
            ConditionType.READY,
            "True",
            ConditionReason.SCALED_TO_ZERO,
            "The resource is scaled to zero: no replica is needed now.",
        )
    if state.complete:
        return ConditionUpdate(
            ConditionType.READY,
            "True",
            ConditionReason.ALL_REPLICAS_READY,
            f"{_replicas(state.desired)} of the newest spec {_are(state.desired)} ready.",
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
        f"{state.available} of {_replicas(state.desired)} {_are(state.available)} ready.",
    )


APPLYING = "The newest spec is being applied."

NOT_APPLIED_REASONS = (
    ConditionReason.INVALID_SPEC,
    ConditionReason.MODEL_SOURCE_UNUSABLE,
    ConditionReason.TOO_MANY_ACCELERATORS,
    ConditionReason.CHILD_NOT_OWNED,
    ConditionReason.CHILD_REJECTED,
    ConditionReason.CHILD_NOT_APPLIED,
    ConditionReason.MANIFEST_BUILD_FAILED,
)
"""Reasons for which the newest spec does not run, whatever the counts are."""


def _available(state: RolloutProgress) -> ConditionUpdate:
    if state.available:
        return ConditionUpdate(
            ConditionType.AVAILABLE,
            "True",
            ConditionReason.SERVING,
            "At least one replica is ready.",
        )
    if state.desired == 0:
        message = (
            "The resource is scaled to zero; with minReplicas 0 the first request starts a replica."
        )
        return ConditionUpdate(
            ConditionType.AVAILABLE, "False", ConditionReason.SCALED_TO_ZERO, message
        )
    return ConditionUpdate(
        ConditionType.AVAILABLE, "False", ConditionReason.NO_REPLICAS_READY, "No replica is ready."
    )


def _progressing(
    observed: Observed, state: RolloutProgress, problem: Problem | None
) -> ConditionUpdate:
    def update(status: bool, reason: ConditionReason, message: str) -> ConditionUpdate:
        return ConditionUpdate(
            ConditionType.PROGRESSING, "True" if status else "False", reason, message
        )

    if problem is not None and problem.reason in NOT_APPLIED_REASONS:
        return update(False, problem.reason, problem.message)
    if state.deadline_exceeded and not state.complete:
        seconds = observed.resource.spec.rollout.progress_deadline_seconds
        message = (
            f"The rollout made no progress for {seconds} s (spec.rollout.progressDeadlineSeconds)."
        )
        return update(False, ConditionReason.DEADLINE_EXCEEDED, message)
    if state.settled:
        return update(False, ConditionReason.UP_TO_DATE, "All replicas are ready and up to date.")
    if not state.current:
        return update(True, ConditionReason.APPLYING, APPLYING)
    if state.rolling:
        return update(True, ConditionReason.ROLLING_OUT, _rolled(state))
    if state.replicas > state.desired:
        message = f"Scaling down from {state.replicas} to {_replicas(state.desired)}."
        return update(True, ConditionReason.SCALING_DOWN, message)
    message = f"{state.available} of {_replicas(state.desired)} {_are(state.available)} ready."
    return update(
        True, ConditionReason.SCALING_UP if state.available else ConditionReason.STARTING, message
    )


def _scaling_active(observed: Observed, decision: Decision | None) -> ConditionUpdate:
    kind = ConditionType.SCALING_ACTIVE
    if observed.resource.spec.autoscaling is None:
        message = "spec.autoscaling is not set: spec.replicas sets the count."
        return ConditionUpdate(kind, "False", ConditionReason.AUTOSCALING_OFF, message)
    if decision is None:
        return ConditionUpdate(
            kind, "Unknown", ConditionReason.DECISION_PENDING, "No decision has been made yet."
        )
    if not decision.metrics_available:
        return ConditionUpdate(
            kind, "False", Why.METRICS_UNAVAILABLE, _missing_metrics_message(decision), steady=True
        )
    return ConditionUpdate(
        kind,
        "True",
        ConditionReason.METRICS_AVAILABLE,
        "The load is known and sets the replica count.",
    )


def _missing_metrics_message(decision: Decision) -> str:
    """Return the message of the rule that missed metrics; a later rule may have set the count."""
    messages = (one.message for one in decision.steps if one.reason is Why.METRICS_UNAVAILABLE)
    return next(messages, decision.message)


def _degraded(problem: Problem | None) -> list[ConditionUpdate]:
    if problem is None:
        return []
    return [ConditionUpdate(ConditionType.DEGRADED, "True", problem.reason, problem.message)]


def _name_conflict(observed: Observed) -> list[ConditionUpdate]:
    """Report model names taken by other resources; `namespace/name` still reaches this one."""
    lost, resource = observed.name_conflicts, observed.resource
    if not lost:
        return []
    taken = ", ".join(f"{name} routes to {owner}" for name, owner in sorted(lost.items()))
    own = resource.name in lost
    remedy = "Choose another alias."
    if own:
        remedy = f"Use {resource.key} as the model name, or rename one of the two resources."
    reason = ConditionReason.NAME_TAKEN if own else ConditionReason.ALIAS_TAKEN
    message = f"The gateways route model names of this resource to others: {taken}. {remedy}"
    return [ConditionUpdate(ConditionType.MODEL_NAME_CONFLICT, "True", reason, message)]


def _scaling(decision: Decision | None) -> list[ConditionUpdate]:
    updates: list[ConditionUpdate] = []
    if decision is not None and decision.limited:
        updates.append(
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
        updates.append(
            ConditionUpdate(
                ConditionType.FORECAST_UNAVAILABLE,
                "True",
                note.unavailable.reason,
                note.unavailable.message,
                steady=True,
            )
        )
    forecast_approval = decision.forecast_approval if decision is not None else None
    if forecast_approval is not None and not forecast_approval.approved:
        updates.append(
            ConditionUpdate(
                ConditionType.FORECAST_NOT_APPROVED,
                "True",
                forecast_approval.reason.value,
                forecast_approval.message,
            )
        )
    return updates


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
    } | _seats_reserved(decision)


def _seats_reserved(decision: Decision) -> dict[str, int]:
    """Return the seats reserved at all gateways; empty where the arrivals are unknown."""
    reservations = decision.seat_reservations
    if not isinstance(reservations, tuple):
        return {}
    return {"seatsReserved": max((one.seats for one in reservations), default=0)}


def _mode(observed: Observed) -> DecisionMode:
    return (
        DecisionMode.MANUAL if observed.resource.spec.autoscaling is None else DecisionMode.REACTIVE
    )


def _rolled(state: RolloutProgress) -> str:
    return f"{state.updated} of {_replicas(state.desired)} {_are(state.updated)} up to date."


def _replicas(count: int) -> str:
    return f"{count} replica" if count == 1 else f"{count} replicas"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
