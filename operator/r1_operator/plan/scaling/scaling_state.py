"""What a scaling decision remembers of the ones before it.

Everything in it lives in memory only. A restarted operator knows nothing, and the empty history
is built so that knowing nothing never lowers a count: the count that is found stands as a
recommendation of that moment, and a full window has to pass before anything lower is believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from r1_operator.plan.scaling.capacity_estimate import LearnedCapacity
from r1_operator.plan.scaling.forecast_budget import ForecastBudget
from r1_operator.plan.scaling.hpa_simulation import HpaState
from r1_operator.plan.scaling.latency_objectives import LatencyMemory
from r1_operator.plan.scaling.policy import RateLimit, ScalingPolicy
from r1_operator.plan.scaling.rate_limits import (
    Noted,
    ReplicaChange,
    note_highest,
    note_lowest,
    recent,
)

LOOK_BACK_SECONDS = 3600.0
"""No demand is remembered for longer."""


@dataclass(frozen=True, slots=True)
class ScalingState:
    """The memory of one resource's scaling; `History()` is that of a fresh start.

    `since`: first decision; `active_at`: when demand was last seen (or could not be ruled out);
    `highest`: the counts that were no reason to go below, `lowest`: what was recommended, both as
    staircases; `changes`: counts that were changed; `risen_at`: when one last rose;
    `filled`: the replicas that the demand that came just filled, a staircase too;
    `promised_since`: since when the forecast has asked for more than demand came to need;
    `allowance`: what it may still spend; `latency`: what each latency metric remembers, by its label; `capacity`: what a replica was seen
    to finish.
    """

    since: float | None = None
    active_at: float = 0.0
    highest: tuple[Noted, ...] = ()
    lowest: tuple[Noted, ...] = ()
    changes: tuple[ReplicaChange, ...] = ()
    risen_at: float | None = None
    filled: tuple[Noted, ...] = ()
    reactive: HpaState | None = None
    promised_since: float | None = None
    allowance: ForecastBudget = field(default_factory=ForecastBudget)
    latency: Mapping[str, LatencyMemory] = field(default_factory=dict)
    capacity: LearnedCapacity = field(default_factory=LearnedCapacity)

    def started(self, now: float, current: int) -> "ScalingState":
        """Begin to watch at the first decision."""
        if self.since is not None:
            return self
        found = (Noted(now, current),)
        return replace(self, since=now, active_at=now, highest=found)

    def interrupted(self, now: float, current: int) -> "ScalingState":
        """Begin to watch again after a time without decisions: a full window has to pass anew."""
        if self.since is None:
            return self
        highest = note_highest(self.highest, now, current)
        return replace(self, since=now, active_at=now, highest=highest)

    def noted(
        self, now: float, replicas: int, kept: int, *, active: bool, policy: ScalingPolicy
    ) -> "ScalingState":
        """Remember a recommendation and the count that was no reason to go below.

        What no window reaches back to any more is forgotten.
        """
        down, up = policy.down.stabilization_window_seconds, policy.up.stabilization_window_seconds
        return replace(
            self,
            active_at=now if active else self.active_at,
            highest=recent(note_highest(self.highest, now, max(replicas, kept)), now, down),
            lowest=recent(note_lowest(self.lowest, now, replicas), now, up),
        )

    def met(self, now: float, filled: int) -> "ScalingState":
        """Remember how many replicas the demand at hand just fills."""
        noted = note_highest(self.filled, now, filled)
        return replace(self, filled=recent(noted, now, LOOK_BACK_SECONDS))

    def most_filled(self, now: float, seconds: float) -> int:
        """Return the most replicas that demand just filled within the last `seconds`."""
        return next((n.replicas for n in self.filled if now - n.at < seconds), 0)

    def decided(
        self,
        now: float,
        by: int,
        policy: ScalingPolicy,
        *,
        promised_since: float | None,
        reactive: HpaState | None,
    ) -> "ScalingState":
        """Remember how a decision ended.

        A change of the count is kept for as long as a rate limit may ask about it.
        """
        longest = max(_period(policy.up.limits), _period(policy.down.limits))
        kept = tuple(change for change in self.changes if now - change.at < longest)
        return replace(
            self,
            changes=(*kept, ReplicaChange(now, by)) if by else kept,
            risen_at=now if by > 0 else self.risen_at,
            promised_since=promised_since,
            reactive=reactive,
        )

    def watched_for(self, now: float) -> float:
        """Return for how many seconds decisions have been made."""
        return 0.0 if self.since is None else now - self.since


def _period(limits: Sequence[RateLimit]) -> float:
    return max((limit.period_seconds for limit in limits), default=0.0)
