"""What a backtest says, in a sentence: whether ours is worth it on this history."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from r1_evaluation.leaderboard.scoring import LeaderboardRow

MIN_DIFFERENCE = 0.01
"""A difference below this share of the cost is none."""


class Finding(StrEnum):
    """What the comparison at equal service came to."""

    CHEAPER = "Cheaper"
    EQUAL = "Equal"
    MORE_EXPENSIVE = "MoreExpensive"
    ONLY_OURS = "OnlyCandidateMeetsSLO"
    ONLY_THEIRS = "OnlyBaselineMeetsSLO"
    NEITHER = "NeitherMeetsSLO"


@dataclass(frozen=True, slots=True)
class BacktestVerdict:
    """The finding, ours over the other's cost at the same objective (None where one has none),
    the same with targets tuned on the first half and scored on the second, and what to set."""

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

    The forecast is suggested only where it is what makes ours cheaper.
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
        return Finding.ONLY_THEIRS, None
    if other is None:
        return Finding.ONLY_OURS, None
    ratio = ours / other
    if ratio < 1 - MIN_DIFFERENCE:
        return Finding.CHEAPER, ratio
    return (Finding.MORE_EXPENSIVE if ratio > 1 + MIN_DIFFERENCE else Finding.EQUAL), ratio


def _sentence(
    finding: Finding, ratio: float | None, other: str, max_overload: float, alone: float | None
) -> str:
    objective = f"at most {max_overload:.1%} of requests overloaded"
    match finding:
        case Finding.CHEAPER if ratio is not None:
            without = "never keeps to it" if alone is None else f"costs {alone:.2f} of it"
            return (
                f"Ours costs {1 - ratio:.1%} less than a tuned {other} with {objective}; "
                f"without its forecast it {without}."
            )
        case Finding.MORE_EXPENSIVE if ratio is not None:
            return f"Ours costs {ratio - 1:.1%} more than a tuned {other} with {objective}."
        case Finding.ONLY_OURS:
            return f"Ours keeps to {objective}; {other} does at no target that was tried."
        case Finding.ONLY_THEIRS:
            return f"{other} keeps to {objective}; ours does at no target that was tried."
        case Finding.NEITHER:
            return (
                f"Neither keeps to {objective}: load rises faster than replicas start, or "
                "maxReplicas is too low."
            )
        case _:
            return f"Ours costs as much as a tuned {other} with {objective}, within {MIN_DIFFERENCE:.0%}."
