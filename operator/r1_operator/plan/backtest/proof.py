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
from r1_operator.api.names import BacktestPhase, ProofReason
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.forecasts import Forecast, Gate
from r1_operator.plan.unavailable import Unavailable

GOOD_FINDINGS: Final = frozenset({"Cheaper", "Equal", "OnlyOursKeepsTheObjective"})
MOST_AGE_SECONDS: Final = 90 * 86_400
"""A verdict counts for as long as the longest past that a backtest can read."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the named backtest says: `acts` lets the forecast act while its gate does."""

    acts: bool
    reason: ProofReason
    message: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What has to be proved: by which backtest, of which resource, and which `autoscaling`."""

    backtest: str
    inference: str
    autoscaling_hash: str


def asked_of(resource: R1Inference) -> Asked | None:
    """Return what the resource wants proved; None where it names no backtest."""
    autoscaling = resource.spec.autoscaling
    name = None if autoscaling is None else autoscaling.forecast.backtest_name
    return None if name is None else Asked(name, resource.name, autoscaling_hash(autoscaling))


NOT_READ: Final = Proof(
    False, ProofReason.BACKTEST_NOT_READ, "R1Backtests have not been read yet: wait a moment."
)


def proof_of(asked: Asked, backtest: Mapping[str, Any] | None, now: float) -> Proof:
    """Read the object of that name as found (None: there is none); `now` in unix seconds."""
    name = asked.backtest
    if backtest is None:
        return _no(
            ProofReason.BACKTEST_MISSING,
            f"There is no R1Backtest {name}: create it with inferenceName {asked.inference}, or "
            "correct forecast.backtestName.",
        )
    tried = (backtest.get("spec") or {}).get("inferenceName")
    if tried != asked.inference:
        return _no(
            ProofReason.BACKTEST_OF_ANOTHER,
            f"R1Backtest {name} tried {tried}: name one whose inferenceName is {asked.inference}.",
        )
    status = backtest.get("status") or {}
    phase = status.get("phase")
    if phase == BacktestPhase.FAILED:
        return _no(
            ProofReason.BACKTEST_FAILED,
            f"R1Backtest {name} failed ({_why(status)}): create a new one and name it.",
        )
    if phase != BacktestPhase.SUCCEEDED:
        return _no(
            ProofReason.BACKTEST_RUNNING,
            f"R1Backtest {name} has not ended ({_why(status)}): wait for its verdict.",
        )
    return _by_verdict(asked, status, now)


def proved(
    forecast: Forecast | Unavailable | None, proof: Proof | None
) -> Forecast | Unavailable | None:
    """Return the forecast with its gate shut where the proof that was asked for is not there."""
    if proof is None or proof.acts or not isinstance(forecast, Forecast) or not forecast.gate.acts:
        return forecast
    return replace(forecast, gate=Gate(False, proof.reason.value, proof.message))


def _by_verdict(asked: Asked, status: Mapping[str, Any], now: float) -> Proof:
    name, verdict = asked.backtest, status.get("verdict") or {}
    if status.get("autoscalingHash") != asked.autoscaling_hash:
        return _no(
            ProofReason.BACKTEST_STALE,
            f"R1Backtest {name} tried another spec.autoscaling than there is now: create a new one "
            "and name it.",
        )
    age = now - unix_seconds(status["finishedAt"]) if "finishedAt" in status else 0.0
    if age > MOST_AGE_SECONDS:
        return _no(
            ProofReason.BACKTEST_STALE,
            f"R1Backtest {name} ended {age / 86_400:.0f} days ago, and a verdict counts for "
            f"{MOST_AGE_SECONDS // 86_400}: create a new one and name it.",
        )
    finding, said = str(verdict.get("finding", "")), str(verdict.get("message", ""))
    if finding not in GOOD_FINDINGS:
        return _no(
            ProofReason.BACKTEST_AGAINST,
            f"R1Backtest {name} found {finding or 'no verdict'}: {said} Change spec.autoscaling and "
            "try that, or set forecast.activation.",
        )
    return Proof(True, ProofReason.BACKTEST_FOR, f"R1Backtest {name} found {finding}: {said}")


def _why(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Complete":
            return f"{condition.get('reason')}: {condition.get('message')}".rstrip(".")
    return "nothing is known of it yet"


def _no(reason: ProofReason, message: str) -> Proof:
    return Proof(False, reason, message)
