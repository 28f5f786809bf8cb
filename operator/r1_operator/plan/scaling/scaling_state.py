"""State of one resource's scaling between two decisions.

The state is in memory only. After a restart it is empty, and an empty state never lowers a count: the
count found at the start is a recommendation of that moment, and the count may fall only after a full
scale-down window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from r1_operator.plan.scaling.forecast_rules.forecast_budget import ForecastBudget
from r1_operator.plan.scaling.hpa_simulation import HpaState
from r1_operator.plan.scaling.limits.rate_limits import (
    ReplicaChange,
    TimedCount,
    recent,
    record_highest,
    record_lowest,
)
from r1_operator.plan.scaling.policy import RateLimit, ScalingPolicy
from r1_operator.plan.scaling.real_time.capacity_estimate import LearnedCapacity
from r1_operator.plan.scaling.real_time.latency_objectives import LatencyMemory

LOOK_BACK_SECONDS = 3600.0
"""Retention of recent peaks."""


@dataclass(frozen=True, slots=True)
class RecentPeakFloor:
    """Replicas that the peak of the last `seconds` filled; a replica takes `lead_seconds` to start.

    `load`: the demand that filled them, such as "4.1 requests/s". `ends_in`: seconds until the floor can
    be lower.
    """

    replicas: int = 0
    seconds: float = 0.0
    lead_seconds: float = 0.0
    load: str = ""
    ends_in: float = 0.0


NO_FLOOR = RecentPeakFloor()


@dataclass(frozen=True, slots=True)
class ScalingState:
    """State of one resource's scaling; `ScalingState()` is that of a fresh start.

    Times are seconds of the clock that `decide` is called with.

    - `started_at`: first decision; `last_active_at`: last time with demand, or with demand unknown.
    - `highest_recommendations`: floors for the scale-down window, `lowest_recommendations`: counts for
      the scale-up window, both as monotone queues.
    - `changes`: changes of the count; `last_scale_up_at`: the last increase.
    - `recent_peaks`: replicas that demand filled completely, a monotone queue.
    - `hpa`: the simulated HorizontalPodAutoscaler.
    - `overforecast_since`: since when the forecast has exceeded the need that demand showed.
    - `forecast_budget`: what the forecast may still add.
    - `latency`: state of each latency metric by label; `capacity`: measured capacity of a replica.
    """

    started_at: float | None = None
    last_active_at: float = 0.0
    highest_recommendations: tuple[TimedCount, ...] = ()
    lowest_recommendations: tuple[TimedCount, ...] = ()
    changes: tuple[ReplicaChange, ...] = ()
    last_scale_up_at: float | None = None
    recent_peaks: tuple[TimedCount, ...] = ()
    hpa: HpaState | None = None
    overforecast_since: float | None = None
    forecast_budget: ForecastBudget = field(default_factory=ForecastBudget)
    latency: Mapping[str, LatencyMemory] = field(default_factory=dict)
    capacity: LearnedCapacity = field(default_factory=LearnedCapacity)

    def started(self, now: float, current: int) -> "ScalingState":
        """Start the windows at the first decision."""
        if self.started_at is not None:
            return self
        initial = (TimedCount(now, current),)
        return replace(self, started_at=now, last_active_at=now, highest_recommendations=initial)

    def interrupted(self, now: float, current: int) -> "ScalingState":
        """Restart the windows after a time without decisions."""
        if self.started_at is None:
            return self
        highest = record_highest(self.highest_recommendations, now, current)
        return replace(self, started_at=now, last_active_at=now, highest_recommendations=highest)

    def with_recommendation(
        self, now: float, replicas: int, hold_floor: int, *, active: bool, policy: ScalingPolicy
    ) -> "ScalingState":
        """Record a recommendation and the count that it does not allow to fall below.

        Entries that are older than their window are dropped.
        """
        down, up = policy.down.stabilization_window_seconds, policy.up.stabilization_window_seconds
        highest = record_highest(self.highest_recommendations, now, max(replicas, hold_floor))
        lowest = record_lowest(self.lowest_recommendations, now, replicas)
        return replace(
            self,
            last_active_at=now if active else self.last_active_at,
            highest_recommendations=recent(highest, now, down),
            lowest_recommendations=recent(lowest, now, up),
        )

    def with_demand(self, now: float, replicas: int, load: str) -> "ScalingState":
        """Record how many replicas the current demand fills completely; `load`: the demand in words."""
        peaks = record_highest(self.recent_peaks, now, replicas, load)
        return replace(self, recent_peaks=recent(peaks, now, LOOK_BACK_SECONDS))

    def recent_peak(self, now: float, seconds: float, lead_seconds: float) -> RecentPeakFloor:
        """Return the floor of the most replicas that demand filled completely in the last `seconds`."""
        peak = next((one for one in self.recent_peaks if now - one.at < seconds), None)
        if peak is None:
            return RecentPeakFloor(0, seconds, lead_seconds)
        ends_in = peak.at + seconds - now
        return RecentPeakFloor(peak.replicas, seconds, lead_seconds, peak.load, ends_in)

    def with_decision(
        self,
        now: float,
        by: int,
        policy: ScalingPolicy,
        *,
        overforecast_since: float | None,
        hpa: HpaState | None,
    ) -> "ScalingState":
        """Record the change of the count; changes stay as long as a rate limit counts them."""
        longest = max(_period(policy.up.limits), _period(policy.down.limits))
        changes = tuple(change for change in self.changes if now - change.at < longest)
        return replace(
            self,
            changes=(*changes, ReplicaChange(now, by)) if by else changes,
            last_scale_up_at=now if by > 0 else self.last_scale_up_at,
            overforecast_since=overforecast_since,
            hpa=hpa,
        )

    def observed_seconds(self, now: float) -> float:
        """Return the seconds since the first decision."""
        return 0.0 if self.started_at is None else now - self.started_at


def _period(limits: Sequence[RateLimit]) -> float:
    return max((limit.period_seconds for limit in limits), default=0.0)
