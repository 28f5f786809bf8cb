"""Budget of extra replicas that a forecast may add over a HorizontalPodAutoscaler.

On bursty demand an honest quantile of the peak is far above current demand almost always. Following it
without a limit would cost much more than the target utilization implies. So the replica-seconds of the
policy are compared with those of the simulated HorizontalPodAutoscaler plus `SHARE`, at a target of
70 % where the policy's own target is higher: a higher target leaves the headroom to the forecast.

Unused budget accumulates for at most `MAX_BALANCE_SECONDS`, which pays for a predicted rise. When the
balance is exhausted the forecast pauses and real-time demand decides alone. The forecast resumes at
half of the maximum balance; at a lower level it would start replicas only to stop them again.
"""

from dataclasses import dataclass

SHARE = 0.08
"""With the initial balance this is less than a tenth over any three days."""
BASELINE_UTILIZATION = 0.7
MAX_BALANCE_SECONDS = 12 * 3600.0
RESUME_SHARE = 0.5
LONGEST_CHARGE_SECONDS = 60.0
"""Upper bound between two decisions; the counts during a longer gap are not known."""


def baseline(hpa_replicas: int, target_utilization: float) -> float:
    """Return the replicas of a HorizontalPodAutoscaler at 70 %, or at the target where lower.

    `hpa_replicas` is its count at `target_utilization`.
    """
    return hpa_replicas * max(1.0, target_utilization / BASELINE_UTILIZATION)


@dataclass(frozen=True, slots=True)
class ForecastBudget:
    """Balance in replica-seconds (None before the first decision) and whether it is exhausted."""

    balance: float | None = None
    exhausted: bool = False
    at: float = 0.0

    def charged(self, current: int, baseline: float, now: float) -> "ForecastBudget":
        """Charge the time since the last decision, during which `current` replicas ran.

        `baseline` is the count that they are compared with (function `baseline`).
        """
        full = SHARE * MAX_BALANCE_SECONDS * baseline
        if self.balance is None:
            return ForecastBudget(full, False, now)
        elapsed = min(max(now - self.at, 0.0), LONGEST_CHARGE_SECONDS)
        balance = self.balance + ((1 + SHARE) * baseline - current) * elapsed
        balance = max(min(balance, full), -full)
        exhausted = balance <= 0 or (self.exhausted and balance < RESUME_SHARE * full)
        return ForecastBudget(balance, exhausted, now)
