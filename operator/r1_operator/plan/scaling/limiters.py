"""The limiters: rules that stand between what demand asks for and what is done.

Each is a function of the situation and the count so far; it returns the count it allows with
reason and message, or None when it has nothing to say. `LIMITERS` is the order in which they are
asked, and the order is the policy: data first, then patience, then pace, then bounds, which
nothing overrides.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from r1_operator.api.scaling import DownPolicy
from r1_operator.plan.placement.schedulable import NOT_ASKED, NOT_SEEN_YET, Placement
from r1_operator.plan.scaling.policy import ScalingPolicy, lowest
from r1_operator.plan.scaling.rate_limits import highest_allowed, lowest_allowed, recent
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.scaling.scaling_state import ScalingState
from r1_operator.plan.unavailable import Unavailable

STEADY_SECONDS = 60.0
"""How long rates are means of: before that a fall after a rise says little."""


@dataclass(frozen=True, slots=True)
class LimiterInput:
    """What a limiter may look at.

    `missing` are the demand figures that could not be had, `waiting` whether a request waits or
    runs somewhere, whatever the rates say, `plain` what a plain autoscaler would run where a forecast
    vouches that no more is needed (None: none does) and `returning` how many replicas stay meanwhile
    for a burst that may come again, `placement` where the replicas are and for how many more there is
    room.
    """

    policy: ScalingPolicy
    history: ScalingState
    now: float
    current: int
    missing: tuple[Unavailable, ...]
    waiting: bool
    plain: int | None = None
    returning: int = 0
    placement: Placement = NOT_ASKED


@dataclass(frozen=True, slots=True)
class Limit:
    """The count a limiter allows, why, and one sentence."""

    replicas: int
    reason: DecisionReason
    message: str


Limiter = Callable[[LimiterInput, int], Limit | None]


def hold_on_missing(situation: LimiterInput, wanted: int) -> Limit | None:
    """Do not go down on half of the data: what is missing may be the half that is high."""
    if not situation.missing or wanted >= situation.current:
        return None
    why = situation.missing[0].message
    return Limit(
        situation.current,
        DecisionReason.METRICS_UNAVAILABLE,
        f"Held at {situation.current}: some demand is not known. {why}",
    )


def hold_until_idle(situation: LimiterInput, wanted: int) -> Limit | None:
    """Sleep only after nothing was asked for a whole down window, under either down policy."""
    if wanted > 0 or situation.current == 0 or situation.policy.min_replicas > 0:
        return None
    idle = situation.now - situation.history.active_at
    window = situation.policy.down.stabilization_window_seconds
    if idle >= window:
        return None
    return Limit(
        1,
        DecisionReason.AWAITING_IDLE,
        f"One replica stays: nothing was asked for {idle:.0f} s, and it sleeps after {window:.0f}.",
    )


def stabilize_up(situation: LimiterInput, wanted: int) -> Limit | None:
    """Believe a rise only when it held for the whole up window (0 s: at once)."""
    if wanted <= situation.current or situation.policy.up.stabilization_window_seconds <= 0:
        return None
    window = situation.policy.up.stabilization_window_seconds
    lowest = min((noted.replicas for noted in situation.history.lowest), default=wanted)
    if situation.history.watched_for(situation.now) < window:
        lowest = min(lowest, situation.current)
    allowed = max(situation.current, min(wanted, lowest))
    if allowed == wanted:
        return None
    return Limit(
        allowed,
        DecisionReason.STABILIZED,
        f"{allowed} for now: {wanted} are needed, but not yet for {window:.0f} s without a break.",
    )


def stabilize_down(situation: LimiterInput, wanted: int) -> Limit | None:
    """Believe a fall as the policy says, and none before a full window was watched."""
    current, down = situation.current, situation.policy.down
    if wanted >= current:
        return None
    window, watched = (
        down.stabilization_window_seconds,
        situation.history.watched_for(situation.now),
    )
    if watched < window:
        return Limit(
            current,
            DecisionReason.STABILIZED,
            f"Held at {current}: demand now needs {wanted}, and only {watched:.0f} of {window:.0f} "
            "s have been watched since the start.",
        )
    if down.policy is DownPolicy.THRESHOLD:
        if wanted < current * down.threshold_percent / 100:
            return None
        return Limit(
            current,
            DecisionReason.STABILIZED,
            f"Held at {current}: demand now needs {wanted}, which is not below "
            f"{down.threshold_percent:.0f} % of it.",
        )
    highest = max(
        (noted.replicas for noted in recent(situation.history.highest, situation.now, window)),
        default=wanted,
    )
    if situation.plain is not None:
        return _stabilize_vouched(situation, wanted, highest, situation.plain)
    allowed = min(current, max(wanted, highest))
    if allowed == wanted:
        return None
    return Limit(
        allowed,
        DecisionReason.STABILIZED,
        f"{allowed} kept: in the last {window:.0f} s demand came within a tenth of what {highest} "
        f"are for; it now needs {wanted}.",
    )


def _stabilize_vouched(
    situation: LimiterInput, wanted: int, highest: int, plain: int
) -> Limit | None:
    """Do not wait for the window while a forecast vouches, down to what a plain autoscaler runs.

    A rise within the lead is in the need already. `highest` is what the window would hold: a plain
    autoscaler is followed no further than the policy itself would go. A fall within a minute of a
    rise is as likely a waver of the rates, and what was started for it would be stopped unused.
    """
    risen = situation.history.risen_at
    since = math.inf if risen is None else situation.now - risen
    steady = min(STEADY_SECONDS, situation.policy.down.stabilization_window_seconds)
    if since < steady:
        return Limit(
            situation.current,
            DecisionReason.STABILIZED,
            f"Held at {situation.current}: it rose {since:.0f} s ago, and rates are means of a "
            f"minute; demand now needs {wanted}.",
        )
    floor = min(plain, highest)
    # Nothing at all is wanted only after a whole window without a request: that is no lull.
    returning = situation.returning if wanted > 0 else 0
    allowed = min(situation.current, max(wanted, floor, returning))
    if allowed == wanted:
        return None
    if returning > floor:
        why = (
            f"what came lately just filled {returning}, and it may come again sooner than a "
            "replica starts"
        )
    else:
        why = f"a HorizontalPodAutoscaler at the same target would still run {floor}"
    return Limit(
        allowed, DecisionReason.STABILIZED, f"{allowed} kept: {why}; demand now needs {wanted}."
    )


def limit_rate(situation: LimiterInput, wanted: int) -> Limit | None:
    """Move no faster than the behaviour allows."""
    current, policy = situation.current, situation.policy
    changes, now = situation.history.changes, situation.now
    if wanted > current:
        reach = highest_allowed(current, changes, policy.up.limits, now)
        if reach is None or reach >= wanted:
            return None
    elif wanted < current:
        reach = lowest_allowed(current, changes, policy.down.limits, now)
        if reach is None or reach <= wanted:
            return None
    else:
        return None
    return Limit(
        reach,
        DecisionReason.RATE_LIMITED,
        f"{reach} for now, on the way to {wanted}: the rate limit allows no more at once.",
    )


def wake(situation: LimiterInput, wanted: int) -> Limit | None:
    """Wake from zero as soon as anything waits, whatever the rules before said."""
    if situation.current > 0 or wanted > 0 or not situation.waiting:
        return None
    return Limit(
        1, DecisionReason.SCALING_FROM_ZERO, "1 replica wakes: a request is waiting for it."
    )


def at_least(situation: LimiterInput, wanted: int) -> Limit | None:
    """Start from the minimum: below it there is nothing to be patient about."""
    low = situation.policy.min_replicas
    if wanted >= low:
        return None
    return Limit(low, DecisionReason.AT_MIN, f"{low}, the minimum: {wanted} would do.")


def at_most(situation: LimiterInput, wanted: int, *, at_once: bool = False) -> Limit | None:
    """Want no more than the maximum and the budgets allow, whichever is lowest.

    `at_once`: the count is what patience and pace left standing, not what would be needed; so is
    one that is held because metrics are missing.
    """
    low, high = situation.policy.min_replicas, situation.policy.max_replicas
    at_once = at_once or (bool(situation.missing) and wanted <= situation.current)
    budget = lowest(situation.policy.ceilings)
    if budget is None or budget.replicas >= high:
        if wanted <= high:
            return None
        words = ", at once." if at_once else f": {wanted} would be needed."
        return Limit(high, DecisionReason.AT_MAX, f"{high}, the maximum{words}")
    if wanted <= budget.replicas:
        return None
    if budget.replicas < low:
        return Limit(
            low,
            DecisionReason.OVER_BUDGET,
            f"{low}, the minimum, though {budget.clause}: lower minReplicas or raise the budget.",
        )
    words = ", at once" if at_once else f": {wanted} would be needed"
    message = f"{budget.replicas}{words}; {budget.clause}."
    return Limit(budget.replicas, budget.reason, message)


def keep_to_schedulable(situation: LimiterInput, wanted: int) -> Limit | None:
    """Under Bindable, ask for no more than find a node, and for a few that may wait for one.

    It holds rises only: what was asked for and lost its place keeps its turn in the queue.
    """
    policy, current, placement = situation.policy, situation.current, situation.placement
    room = placement.room
    if not policy.bindable or room is None or wanted <= current:
        return None
    if isinstance(room, Unavailable):
        if room is not NOT_SEEN_YET and not placement.stuck:
            return None  # the pods themselves will say
        most = placement.placed + (0 if room is NOT_SEEN_YET else policy.pending_replicas)
        why = f"{placement.stuck} pods find no node; {room.message}" if placement.stuck else ""
        words = f"{wanted} are wanted. {why or room.message}"
    else:
        bindable = placement.placed + room.replicas
        most = bindable + policy.pending_replicas
        words = f"{min(bindable, wanted)} of the {wanted} wanted can bind now ({room.words})."
        if policy.pending_replicas:
            words += f" {policy.pending_replicas} may wait for a node."
    allowed = max(current, policy.min_replicas, min(wanted, most))
    if allowed == wanted:
        return None
    return Limit(allowed, DecisionReason.INSUFFICIENT_CAPACITY, f"{allowed} for now: {words}")


def bound(situation: LimiterInput, wanted: int) -> Limit | None:
    """Stay between minimum, maximum and budgets, whatever patience and pace made of it."""
    return at_least(situation, wanted) or at_most(situation, wanted, at_once=True)


LIMITERS: tuple[tuple[str, Limiter], ...] = (
    ("Minimum", at_least),
    ("MissingMetrics", hold_on_missing),
    ("Idle", hold_until_idle),
    ("StabilizeUp", stabilize_up),
    ("StabilizeDown", stabilize_down),
    ("Maximum", at_most),
    ("Room", keep_to_schedulable),
    ("RateLimit", limit_rate),
    ("ScalingFromZero", wake),
    ("Bounds", bound),
)
