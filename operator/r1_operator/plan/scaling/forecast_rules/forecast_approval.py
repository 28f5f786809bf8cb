"""Approval of a forecast by the R1Backtest that a resource names.

`forecast.backtestName` adds a condition to the forecaster's own gate: the policy as it is set now was
replayed on the resource's own load and was not more expensive. The gate still applies, because it is
more recent than any backtest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.backtest.spec import autoscaling_hash
from r1_operator.api.names import BacktestPhase, ForecastApprovalReason
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.signals.forecast import ForecastGate, ReceivedForecast

APPROVING_FINDINGS: Final = frozenset({"Cheaper", "Equal", "OnlyCandidateMeetsSLO"})
MAX_AGE_SECONDS: Final = 90 * 86_400
"""A result is valid for as long as the longest history that a backtest can read."""


@dataclass(frozen=True, slots=True)
class ForecastApproval:
    """Result of the named backtest; `approved` lets the forecast act while its gate is open."""

    approved: bool
    reason: ForecastApprovalReason
    message: str


@dataclass(frozen=True, slots=True)
class BacktestTarget:
    """The required backtest, the resource and the `autoscaling` that it has to cover."""

    backtest: str
    inference: str
    autoscaling_hash: str


def target_of(resource: R1Inference) -> BacktestTarget | None:
    """Return the backtest that the resource requires; None where it names none."""
    autoscaling = resource.spec.autoscaling
    name = None if autoscaling is None else autoscaling.forecast.backtest_name
    return (
        None if name is None else BacktestTarget(name, resource.name, autoscaling_hash(autoscaling))
    )


NOT_READ: Final = ForecastApproval(
    False,
    ForecastApprovalReason.BACKTEST_NOT_READ,
    "R1Backtests are not read yet: wait a few seconds.",
)


def approval_of(
    target: BacktestTarget, backtest: Mapping[str, Any] | None, now: float
) -> ForecastApproval:
    """Read the R1Backtest of that name (None: it does not exist); `now` in unix seconds."""
    name = target.backtest
    if backtest is None:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_MISSING,
            f"R1Backtest {name} does not exist: create it with inferenceName {target.inference}, or "
            "correct forecast.backtestName.",
        )
    tested = (backtest.get("spec") or {}).get("inferenceName")
    if tested != target.inference:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_TARGET_MISMATCH,
            f"R1Backtest {name} tested {tested}: name one whose inferenceName is "
            f"{target.inference}.",
        )
    status = backtest.get("status") or {}
    phase = status.get("phase")
    if phase == BacktestPhase.FAILED:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_FAILED,
            f"R1Backtest {name} failed ({_cause(status)}): create a new one and name it in "
            "forecast.backtestName.",
        )
    if phase != BacktestPhase.SUCCEEDED:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_RUNNING,
            f"R1Backtest {name} has not finished ({_cause(status)}): wait for its result.",
        )
    return _by_result(target, status, now)


def apply_approval(
    forecast: ReceivedForecast | Unavailable | None, approval: ForecastApproval | None
) -> ReceivedForecast | Unavailable | None:
    """Close the gate of the forecast while a required approval is missing."""
    if (
        approval is None
        or approval.approved
        or not isinstance(forecast, ReceivedForecast)
        or not forecast.gate.acts
    ):
        return forecast
    return replace(forecast, gate=ForecastGate(False, approval.reason.value, approval.message))


def _by_result(target: BacktestTarget, status: Mapping[str, Any], now: float) -> ForecastApproval:
    name, verdict = target.backtest, status.get("verdict") or {}
    if status.get("autoscalingHash") != target.autoscaling_hash:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_STALE,
            f"R1Backtest {name} tested another spec.autoscaling than the current one: create a new "
            "one and name it in forecast.backtestName.",
        )
    age = now - unix_seconds(status["finishedAt"]) if "finishedAt" in status else 0.0
    if age > MAX_AGE_SECONDS:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_STALE,
            f"R1Backtest {name} finished {age / 86_400:.0f} days ago, and a result is valid for "
            f"{MAX_AGE_SECONDS // 86_400} days: create a new one and name it in "
            "forecast.backtestName.",
        )
    finding, message = str(verdict.get("finding", "")), str(verdict.get("message", ""))
    if finding not in APPROVING_FINDINGS:
        return _not_approved(
            ForecastApprovalReason.BACKTEST_REJECTED,
            f"R1Backtest {name} found {finding or 'no result'}: {message} Change spec.autoscaling "
            "and run a new backtest, or set forecast.activation.",
        )
    return ForecastApproval(
        True,
        ForecastApprovalReason.BACKTEST_PASSED,
        f"R1Backtest {name} found {finding}: {message}",
    )


def _cause(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Complete":
            return f"{condition.get('reason')}: {condition.get('message')}".rstrip(".")
    return "it has no status yet"


def _not_approved(reason: ForecastApprovalReason, message: str) -> ForecastApproval:
    return ForecastApproval(False, reason, message)
