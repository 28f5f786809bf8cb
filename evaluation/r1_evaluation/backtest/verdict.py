"""The verdict of a backtest: `ours` beside a tuned HPA at the same service level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from r1_evaluation.leaderboard.scoring import LeaderboardRow

MIN_DIFFERENCE = 0.01
"""Cost differences below this share count as equal."""


class Finding(StrEnum):
    """Result of the comparison at equal service."""

    CHEAPER = "Cheaper"
    EQUAL = "Equal"
    MORE_EXPENSIVE = "MoreExpensive"
    ONLY_OURS = "OnlyCandidateMeetsSLO"
    ONLY_BASELINE = "OnlyBaselineMeetsSLO"
    NEITHER = "NeitherMeetsSLO"


@dataclass(frozen=True, slots=True)
class BacktestVerdict:
    """Finding, cost ratios and suggested settings.

    `ratio` is ours over the HPA's cost at the SLO (None: one of them never meets the SLO).
    `ratio_tuned_on_first_half` has targets tuned on the first half and scored on the second.
    """

    finding: Finding
    ratio: float | None
    ratio_tuned_on_first_half: float | None
    message: str
    target_utilization_percent: int | None
    activation: str

    def to_json(self) -> dict[str, object]:
        """The verdict as `--json` prints it."""
        return {
            "finding": self.finding.value,
            "ratio": self.ratio,
            "ratioTunedBefore": self.ratio_tuned_on_first_half,
            "message": self.message,
            "suggest": {
                "targetUtilizationPercent": self.target_utilization_percent,
                "activation": self.activation,
            },
        }


def compare(
    ours: LeaderboardRow, alone: LeaderboardRow, other: LeaderboardRow, max_overload: float
) -> BacktestVerdict:
    """Compare ours with a tuned `other`; `alone` is ours without its forecast.

    The forecast is suggested only when it makes ours cheaper.
    """
    finding, ratio = _found(ours.cost_at_slo, other.cost_at_slo)
    tuned_on_first_half = None
    if ours.tuned_on_first_half and other.tuned_on_first_half and max(ours.tuned_on_first_half.overload, other.tuned_on_first_half.overload) <= (
        2 * max_overload
    ):  # fmt: skip
        tuned_on_first_half = ours.tuned_on_first_half.cost / other.tuned_on_first_half.cost
    helps = ours.cost_at_slo is not None and (
        alone.cost_at_slo is None or ours.cost_at_slo < (1 - MIN_DIFFERENCE) * alone.cost_at_slo
    )
    best = ours if helps else alone
    target = best.target_at_slo
    return BacktestVerdict(
        finding,
        ratio,
        tuned_on_first_half,
        _sentence(
            finding,
            ratio,
            other.name,
            max_overload,
            _found(alone.cost_at_slo, other.cost_at_slo)[1],
        ),
        None if target is None else round(100 * target),
        "RequireBacktest" if helps else "Never",
    )


def _found(ours: float | None, other: float | None) -> tuple[Finding, float | None]:
    if ours is None and other is None:
        return Finding.NEITHER, None
    if ours is None:
        return Finding.ONLY_BASELINE, None
    if other is None:
        return Finding.ONLY_OURS, None
    ratio = ours / other
    if ratio < 1 - MIN_DIFFERENCE:
        return Finding.CHEAPER, ratio
    return (Finding.MORE_EXPENSIVE if ratio > 1 + MIN_DIFFERENCE else Finding.EQUAL), ratio


def _sentence(
    finding: Finding, ratio: float | None, other: str, max_overload: float, alone: float | None
) -> str:
    slo = f"at most {max_overload:.1%} of requests overloaded"
    match finding:
        case Finding.CHEAPER if ratio is not None:
            without = "misses the SLO" if alone is None else f"costs {alone:.2f} of {other}"
            return (
                f"Ours costs {1 - ratio:.1%} less than a tuned {other} (SLO: {slo}). Without its "
                f"forecast ours {without}."
            )
        case Finding.MORE_EXPENSIVE if ratio is not None:
            return f"Ours costs {ratio - 1:.1%} more than a tuned {other} (SLO: {slo})."
        case Finding.ONLY_OURS:
            return f"Ours meets the SLO ({slo}). {other} meets it at no target utilization."
        case Finding.ONLY_BASELINE:
            return f"{other} meets the SLO ({slo}). Ours meets it at no target utilization."
        case Finding.NEITHER:
            return (
                f"Neither ours nor {other} meets the SLO ({slo}): load rises faster than replicas "
                "start, or maxReplicas is too low."
            )
        case _:
            return (
                f"Ours costs as much as a tuned {other}, within {MIN_DIFFERENCE:.0%} (SLO: {slo})."
            )
