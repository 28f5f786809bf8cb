"""Conditions as values: what changes when, and what must not.

`lastTransitionTime` moves only with `status`. A message may hold figures that change with
every look; those of conditions about load stay as first written while status and reason
stay, or every look would be a write.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from r1_operator.api.names import BacktestCondition, ConditionType

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class ConditionUpdate:
    """One condition without its time. `steady`: keep the message while status and reason stay."""

    type: ConditionType | BacktestCondition
    status: Truth
    reason: str
    message: str
    steady: bool = False


def rfc3339(seconds: float) -> str:
    """Unix seconds as the API writes time, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_times(
    verdicts: Iterable[ConditionUpdate],
    previous: Iterable[Mapping[str, Any]],
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """The condition list of a status; `previous` is the one that is stored."""
    before = {str(one.get("type")): one for one in previous}
    return [_timed(verdict, before.get(verdict.type, {}), generation, now) for verdict in verdicts]


def _timed(
    verdict: ConditionUpdate, before: Mapping[str, Any], generation: int, now: float
) -> dict[str, Any]:
    same_status = before.get("status") == verdict.status
    since = before.get("lastTransitionTime") if same_status else None
    keeps = verdict.steady and same_status and before.get("reason") == verdict.reason
    return {
        "type": verdict.type.value,
        "status": verdict.status,
        "observedGeneration": generation,
        "lastTransitionTime": since or rfc3339(now),
        "reason": str(verdict.reason),
        "message": before.get("message", verdict.message) if keeps else verdict.message,
    }
