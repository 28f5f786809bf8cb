"""Whether the R1Backtest that a resource names lets its forecast act, and what to do where not.

`forecast.backtestName` asks for more than the forecaster's own gate: the whole policy, as it is set
now, has to have been tried on the resource's own load and found no dearer. The gate goes on being
asked as well, since it is newer than any object can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from r1_operator.api.backtest import autoscaling_hash
from r1_operator.api.names import BacktestPhase, ForecastApprovalReason
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast
from r1_operator.plan.unavailable import Unavailable

GOOD_FINDINGS: Final = frozenset({"Cheaper", "Equal", "OnlyCandidateMeetsSLO"})
MOST_AGE_SECONDS: Final = 90 * 86_400
"""A verdict counts for as long as the longest past that a backtest can read."""


@dataclass(frozen=True, slots=True)
class ForecastApproval:
    """What the named backtest says: `acts` lets the forecast act while its gate does."""

    acts: bool
    reason: ForecastApprovalReason
    message: str


@dataclass(frozen=True, slots=True)
class BacktestTarget:
    """What has to be proved: by which backtest, of which resource, and which `autoscaling`."""

    backtest: str
    inference: str
    autoscaling_hash: str


def target_of(resource: R1Inference) -> BacktestTarget | None:
    """Return what the resource wants proved; None where it names no backtest."""
    autoscaling = resource.spec.autoscaling
    name = None if autoscaling is None else autoscaling.forecast.backtest_name
    return (
        None if name is None else BacktestTarget(name, resource.name, autoscaling_hash(autoscaling))
    )


NOT_READ: Final = ForecastApproval(
    False,
    ForecastApprovalReason.BACKTEST_NOT_READ,
    "R1Backtests have not been read yet: wait a moment.",
)


def approval_of(
    asked: BacktestTarget, backtest: Mapping[str, Any] | None, now: float
) -> ForecastApproval:
    """Read the object of that name as found (None: there is none); `now` in unix seconds."""
    name = asked.backtest
    if backtest is None:
        return _no(
            ForecastApprovalReason.BACKTEST_MISSING,
            f"There is no R1Backtest {name}: create it with inferenceName {asked.inference}, or "
            "correct forecast.backtestName.",
        )
    tried = (backtest.get("spec") or {}).get("inferenceName")
    if tried != asked.inference:
        return _no(
            ForecastApprovalReason.BACKTEST_TARGET_MISMATCH,
            f"R1Backtest {name} tried {tried}: name one whose inferenceName is {asked.inference}.",
        )
    status = backtest.get("status") or {}
    phase = status.get("phase")
    if phase == BacktestPhase.FAILED:
        return _no(
            ForecastApprovalReason.BACKTEST_FAILED,
            f"R1Backtest {name} failed ({_why(status)}): create a new one and name it.",
        )
    if phase != BacktestPhase.SUCCEEDED:
        return _no(
            ForecastApprovalReason.BACKTEST_RUNNING,
            f"R1Backtest {name} has not ended ({_why(status)}): wait for its verdict.",
        )
    return _by_verdict(asked, status, now)


def approved(
    forecast: ReceivedForecast | Unavailable | None, proof: ForecastApproval | None
) -> ReceivedForecast | Unavailable | None:
    """Return the forecast with its gate shut where the proof that was asked for is not there."""
    if (
        proof is None
        or proof.acts
        or not isinstance(forecast, ReceivedForecast)
        or not forecast.gate.acts
    ):
        return forecast
    return replace(forecast, gate=ForecastGate(False, proof.reason.value, proof.message))


def _by_verdict(asked: BacktestTarget, status: Mapping[str, Any], now: float) -> ForecastApproval:
    name, verdict = asked.backtest, status.get("verdict") or {}
    if status.get("autoscalingHash") != asked.autoscaling_hash:
        return _no(
            ForecastApprovalReason.BACKTEST_STALE,
            f"R1Backtest {name} tried another spec.autoscaling than there is now: create a new one "
            "and name it.",
        )
    age = now - unix_seconds(status["finishedAt"]) if "finishedAt" in status else 0.0
    if age > MOST_AGE_SECONDS:
        return _no(
            ForecastApprovalReason.BACKTEST_STALE,
            f"R1Backtest {name} ended {age / 86_400:.0f} days ago, and a verdict counts for "
            f"{MOST_AGE_SECONDS // 86_400}: create a new one and name it.",
        )
    finding, said = str(verdict.get("finding", "")), str(verdict.get("message", ""))
    if finding not in GOOD_FINDINGS:
        return _no(
            ForecastApprovalReason.BACKTEST_REJECTED,
            f"R1Backtest {name} found {finding or 'no verdict'}: {said} Change spec.autoscaling and "
            "try that, or set forecast.activation.",
        )
    return ForecastApproval(
        True, ForecastApprovalReason.BACKTEST_PASSED, f"R1Backtest {name} found {finding}: {said}"
    )


def _why(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Complete":
            return f"{condition.get('reason')}: {condition.get('message')}".rstrip(".")
    return "nothing is known of it yet"


def _no(reason: ForecastApprovalReason, message: str) -> ForecastApproval:
    return ForecastApproval(False, reason, message)
