"""Conditions as values, with stable times and messages.

`lastTransitionTime` changes only with `status`. A message may contain figures that change at every
reconcile. Messages about load stay as first written while status and reason stay; otherwise every
reconcile would write the status.
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
    updates: Iterable[ConditionUpdate],
    previous: Iterable[Mapping[str, Any]],
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """Return the condition list of a status; `previous`: the stored one."""
    before = {str(one.get("type")): one for one in previous}
    return [_timed(update, before.get(update.type, {}), generation, now) for update in updates]


def _timed(
    update: ConditionUpdate, before: Mapping[str, Any], generation: int, now: float
) -> dict[str, Any]:
    same_status = before.get("status") == update.status
    since = before.get("lastTransitionTime") if same_status else None
    keeps = update.steady and same_status and before.get("reason") == update.reason
    return {
        "type": update.type.value,
        "status": update.status,
        "observedGeneration": generation,
        "lastTransitionTime": since or rfc3339(now),
        "reason": str(update.reason),
        "message": before.get("message", update.message) if keeps else update.message,
    }
