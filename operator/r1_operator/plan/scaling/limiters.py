"""Limiters: ordered rules between the recommended count and the decided count.

A limiter gets the inputs and the count so far. It returns the count that it allows with reason and
message, or None where it has no objection. `LIMITERS` is the order: missing data, stabilization windows,
maximum, schedulable capacity, rate limits, and last the bounds, which nothing overrides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import DownPolicy
from r1_operator.plan.placement.schedulable import NODES_PENDING, UNKNOWN_PLACEMENT, Placement
from r1_operator.plan.scaling.limits.rate_limits import (
    ReplicaChange,
    highest_allowed,
    lowest_allowed,
    recent,
    seconds_until_below,
    seconds_until_lower,
)
from r1_operator.plan.scaling.policy import ScalingPolicy, tightest
from r1_operator.plan.scaling.real_time.recommendations import count_of, duration
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.scaling_state import NO_FLOOR, RecentPeakFloor, ScalingState

STEADY_SECONDS = 60.0
"""Averaging time of the rates: a fall sooner after a rise is mostly noise."""


@dataclass(frozen=True, slots=True)
class LimiterInput:
    """Inputs of a limiter.

    `missing`: unavailable demand figures. `has_requests`: a request is queued or in flight, whatever the
    rates are. `hpa_floor`: count of the simulated HorizontalPodAutoscaler while a forecast confirms a
    scale-down (None: none does). `recent_peak_floor`: floor of a confirmed scale-down. `placement`:
    where the replicas are and how many more can be scheduled.
    """

    policy: ScalingPolicy
    state: ScalingState
    now: float
    current: int
    missing: tuple[Unavailable, ...]
    has_requests: bool
    hpa_floor: int | None = None
    recent_peak_floor: RecentPeakFloor = NO_FLOOR
    placement: Placement = UNKNOWN_PLACEMENT


@dataclass(frozen=True, slots=True)
class Limit:
    """Count that a limiter allows, with reason and message.

    `scale_down_in`: seconds until it may allow a lower count (None: that does not depend on time).
    """

    replicas: int
    reason: DecisionReason
    message: str
    scale_down_in: float | None = None


Limiter = Callable[[LimiterInput, int], Limit | None]


def hold_on_missing(inputs: LimiterInput, desired: int) -> Limit | None:
    """Prevent a scale-down on incomplete data: the missing part may be the high one."""
    if not inputs.missing or desired >= inputs.current:
        return None
    return Limit(
        inputs.current,
        DecisionReason.METRICS_UNAVAILABLE,
        f"Keeping {count_of(inputs.current)}: a part of the demand is unknown. "
        f"{inputs.missing[0].message}",
    )


def hold_until_idle(inputs: LimiterInput, desired: int) -> Limit | None:
    """Scale to zero only after a full scale-down window without requests, under either policy."""
    if desired > 0 or inputs.current == 0 or inputs.policy.min_replicas > 0:
        return None
    idle = inputs.now - inputs.state.last_active_at
    window = inputs.policy.down.stabilization_window_seconds
    if idle >= window:
        return None
    return Limit(
        1,
        DecisionReason.SCALE_TO_ZERO_COOLDOWN,
        f"Keeping 1 replica: {idle:.0f} s without requests, and scaling to zero takes "
        f"{window:.0f} s.",
        window - idle,
    )


def stabilize_up(inputs: LimiterInput, desired: int) -> Limit | None:
    """Scale up to a count only after the full scale-up window needed it (0 s: at once)."""
    if desired <= inputs.current or inputs.policy.up.stabilization_window_seconds <= 0:
        return None
    window = inputs.policy.up.stabilization_window_seconds
    lowest = min((one.replicas for one in inputs.state.lowest_recommendations), default=desired)
    if inputs.state.observed_seconds(inputs.now) < window:
        lowest = min(lowest, inputs.current)
    allowed = max(inputs.current, min(desired, lowest))
    if allowed == desired:
        return None
    return Limit(
        allowed,
        DecisionReason.STABILIZED,
        f"{count_of(allowed)} for now: demand needs {desired}, but not yet for the full "
        f"scale-up window of {window:.0f} s.",
    )


def stabilize_down(inputs: LimiterInput, desired: int) -> Limit | None:
    """Scale down as the policy requires, and never before one full window was observed."""
    current, down = inputs.current, inputs.policy.down
    if desired >= current:
        return None
    window, observed = (
        down.stabilization_window_seconds,
        inputs.state.observed_seconds(inputs.now),
    )
    if observed < window:
        return Limit(
            current,
            DecisionReason.STABILIZED,
            f"Keeping {count_of(current)}: the operator has observed {observed:.0f} of the "
            f"{window:.0f} s scale-down window (current demand needs {desired}).",
            window - observed,
        )
    if down.policy is DownPolicy.THRESHOLD:
        if desired < current * down.threshold_percent / 100:
            return None
        return Limit(
            current,
            DecisionReason.STABILIZED,
            f"Keeping {count_of(current)}: a scale-down needs demand below "
            f"{down.threshold_percent:.0f}% of the count (current demand needs {desired}).",
        )
    highest = max(
        (one.replicas for one in recent(inputs.state.highest_recommendations, inputs.now, window)),
        default=desired,
    )
    if inputs.hpa_floor is not None:
        return _stabilize_confirmed(inputs, desired, highest, inputs.hpa_floor)
    allowed = min(current, max(desired, highest))
    if allowed == desired:
        return None
    return Limit(
        allowed,
        DecisionReason.STABILIZED,
        f"Keeping {count_of(allowed)}: demand in the last {duration(window)} reached at least 90% "
        f"of the planned load of {highest} (current demand needs {desired}).",
        seconds_until_below(inputs.state.highest_recommendations, allowed, inputs.now, window),
    )


def _stabilize_confirmed(
    inputs: LimiterInput, desired: int, highest: int, hpa_floor: int
) -> Limit | None:
    """Skip the window while a forecast confirms the scale-down, down to the HPA's count.

    A rise within the lead time is in the recommendation already. `highest` is the count that the window
    would keep: the floor never exceeds it. A fall within a minute of a rise is mostly noise of the
    rates, and the replicas just started would stop unused.
    """
    last_rise = inputs.state.last_scale_up_at
    since = math.inf if last_rise is None else inputs.now - last_rise
    steady = min(STEADY_SECONDS, inputs.policy.down.stabilization_window_seconds)
    if since < steady:
        return Limit(
            inputs.current,
            DecisionReason.STABILIZED,
            f"Keeping {count_of(inputs.current)}: the count rose {since:.0f} s ago, and demand rates "
            f"are averages over {STEADY_SECONDS:.0f} s (current demand needs {desired}).",
            steady - since,
        )
    floor, peak = min(hpa_floor, highest), inputs.recent_peak_floor
    # A recommendation of 0 follows a full window without requests: no burst is expected back.
    peak_floor = peak.replicas if desired > 0 else 0
    allowed = min(inputs.current, max(desired, floor, peak_floor))
    if allowed == desired:
        return None
    if peak_floor > floor:
        return Limit(
            allowed,
            DecisionReason.RECENT_PEAK,
            f"Keeping {count_of(allowed)}: demand reached {peak.load} in the last "
            f"{duration(peak.seconds)}, which fills {count_of(peak_floor)}, and a replica takes "
            f"{duration(peak.lead_seconds)} to start (current demand needs {desired}).",
            peak.ends_in,
        )
    return Limit(
        allowed,
        DecisionReason.STABILIZED,
        f"Keeping {count_of(allowed)}: a HorizontalPodAutoscaler at the same target would still run "
        f"{floor} (current demand needs {desired}).",
    )


def limit_rate(inputs: LimiterInput, desired: int) -> Limit | None:
    """Change the count no faster than the behavior's policies allow."""
    current, policy = inputs.current, inputs.policy
    changes, now = inputs.state.changes, inputs.now
    wait: float | None = None
    if desired > current:
        reach = highest_allowed(current, changes, policy.up.limits, now)
        if reach is None or reach >= desired:
            return None
        direction = "scaleUp"
    elif desired < current:
        reach = lowest_allowed(current, changes, policy.down.limits, now)
        if reach is None or reach <= desired:
            return None
        direction = "scaleDown"
        after = (*changes, ReplicaChange(now, reach - current))
        wait = seconds_until_lower(reach, after, policy.down.limits, now)
    else:
        return None
    return Limit(
        reach,
        DecisionReason.RATE_LIMITED,
        f"{count_of(reach)} for now, on the way from {current} to {desired}: behavior.{direction} "
        "limits the rate.",
        wait,
    )


def scale_from_zero(inputs: LimiterInput, desired: int) -> Limit | None:
    """Scale from zero as soon as a request waits, whatever the rules before returned."""
    if inputs.current > 0 or desired > 0 or not inputs.has_requests:
        return None
    return Limit(
        1, DecisionReason.SCALING_FROM_ZERO, "1 replica: a request is waiting and none is running."
    )


def at_least(inputs: LimiterInput, desired: int) -> Limit | None:
    """Raise the count to the minimum, before any window applies."""
    low = inputs.policy.min_replicas
    if desired >= low:
        return None
    return Limit(
        low,
        DecisionReason.AT_MIN_REPLICAS,
        f"{count_of(low)} (minReplicas): demand needs {desired}.",
    )


def at_most(inputs: LimiterInput, desired: int, *, at_once: bool = False) -> Limit | None:
    """Lower the count to the maximum or the tightest budget, whichever is lower.

    `at_once`: the count was kept by windows, rate limits or missing metrics, and is not the number of
    replicas needed.
    """
    low, high = inputs.policy.min_replicas, inputs.policy.max_replicas
    at_once = at_once or (bool(inputs.missing) and desired <= inputs.current)
    budget = tightest(inputs.policy.ceilings)
    cause = f"lowered from {desired} at once" if at_once else f"demand needs {desired}"
    if budget is None or budget.replicas >= high:
        if desired <= high:
            return None
        return Limit(
            high, DecisionReason.AT_MAX_REPLICAS, f"{count_of(high)} (maxReplicas): {cause}."
        )
    if desired <= budget.replicas:
        return None
    if budget.replicas < low:
        return Limit(
            low,
            DecisionReason.OVER_BUDGET,
            f"{count_of(low)} (minReplicas), over budget: {budget.clause}. Lower minReplicas or "
            "raise the budget.",
        )
    message = f"{count_of(budget.replicas)}: {budget.clause}; {cause}."
    return Limit(budget.replicas, budget.reason, message)


def keep_to_schedulable(inputs: LimiterInput, desired: int) -> Limit | None:
    """Under Bindable, limit a scale-up to schedulable replicas plus `pendingReplicas`.

    Scale-downs are not affected: a replica that lost its node keeps its place in the queue.
    """
    policy, current, placement = inputs.policy, inputs.current, inputs.placement
    schedulable = placement.schedulable
    if not policy.bindable or schedulable is None or desired <= current:
        return None
    if isinstance(schedulable, Unavailable):
        if schedulable is not NODES_PENDING and not placement.unschedulable:
            return None  # an unschedulable pod will report itself
        pending = 0 if schedulable is NODES_PENDING else policy.pending_replicas
        most = placement.placed + pending
        detail = f"demand needs {desired}. {schedulable.message}"
        if placement.unschedulable:
            detail = (
                f"demand needs {desired}. {placement.unschedulable} pods are unschedulable; "
                f"{schedulable.message}"
            )
    else:
        bindable = placement.placed + schedulable.replicas
        most = bindable + policy.pending_replicas
        detail = f"{min(bindable, desired)} of the {desired} needed fit on nodes ({schedulable.summary})."
        if policy.pending_replicas:
            detail += f" {policy.pending_replicas} more may wait for a node (pendingReplicas)."
    allowed = max(current, policy.min_replicas, min(desired, most))
    if allowed == desired:
        return None
    return Limit(
        allowed, DecisionReason.INSUFFICIENT_CAPACITY, f"{count_of(allowed)} for now: {detail}"
    )


def bound(inputs: LimiterInput, desired: int) -> Limit | None:
    """Enforce minimum, maximum and budgets after all other rules."""
    return at_least(inputs, desired) or at_most(inputs, desired, at_once=True)


LIMITERS: tuple[tuple[str, Limiter], ...] = (
    ("Minimum", at_least),
    ("MissingMetrics", hold_on_missing),
    ("ScaleToZero", hold_until_idle),
    ("StabilizeUp", stabilize_up),
    ("StabilizeDown", stabilize_down),
    ("Maximum", at_most),
    ("SchedulableCapacity", keep_to_schedulable),
    ("RateLimit", limit_rate),
    ("ScalingFromZero", scale_from_zero),
    ("Bounds", bound),
)
