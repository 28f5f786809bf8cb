"""What a forecast may spend: a twelfth more than a plain autoscaler pays on the same demand.

On bursty demand an honest quantile of the peak lies far above the present nearly always, and
following it would cost far more than anybody agreed to by naming a target. So the replica-seconds
of this policy are held against `SHARE` more than those of the HorizontalPodAutoscaler that runs
beside it, at a target of 70 % where the policy's own is higher: who sets a higher one leaves the
headroom to the forecast. What is not used is saved, for at most `SAVED_SECONDS`, so that a foreseen rise may cost
what it costs. When the savings are gone the forecast pauses, and real time decides alone, until
half of them are back: short of that it would start replicas only to stop them again.
"""

from dataclasses import dataclass

SHARE = 0.08
"""With what is saved at the beginning it is less than a tenth over any three days."""
PLANNED_UTILIZATION = 0.7
SAVED_SECONDS = 12 * 3600.0
RESUMED_AT = 0.5
LONGEST_LOOK_SECONDS = 60.0
"""Between two decisions; what happened in a longer silence is not known."""


def baseline(reactive: int, target_utilization: float) -> float:
    """Return the replicas of a plain autoscaler at 70 %, or at the target where that is lower.

    `reactive` is what it runs at `target_utilization`.
    """
    return reactive * max(1.0, target_utilization / PLANNED_UTILIZATION)


@dataclass(frozen=True, slots=True)
class ForecastBudget:
    """What is saved (replica-seconds; None before the first look) and whether it is spent."""

    saved: float | None = None
    spent: bool = False
    at: float = 0.0

    def settled(self, current: int, baseline: float, now: float) -> "ForecastBudget":
        """Settle the time since the last look, in which `current` replicas ran.

        `baseline` is what they are held against (see there).
        """
        full = SHARE * SAVED_SECONDS * baseline
        if self.saved is None:
            return ForecastBudget(full, False, now)
        elapsed = min(max(now - self.at, 0.0), LONGEST_LOOK_SECONDS)
        saved = self.saved + ((1 + SHARE) * baseline - current) * elapsed
        saved = max(min(saved, full), -full)
        spent = saved <= 0 or (self.spent and saved < RESUMED_AT * full)
        return ForecastBudget(saved, spent, now)
