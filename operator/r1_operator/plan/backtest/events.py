"""Events of a backtest: started, blocked, succeeded or failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_operator.api.names import BacktestCondition, BacktestPhase


@dataclass(frozen=True, slots=True)
class BacktestEvent:
    """One Event: reason, note and whether it is a warning."""

    reason: str
    note: str
    warning: bool = False


def events_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[BacktestEvent, ...]:
    """Compare the stored status with the new one."""
    events: list[BacktestEvent] = []
    conditions = _conditions(after)
    blocked = conditions.get(BacktestCondition.BLOCKED)
    if before.get("phase") != after["phase"]:
        message = conditions[BacktestCondition.COMPLETE]["message"]
        if after["phase"] == BacktestPhase.RUNNING and blocked is None:
            events.append(BacktestEvent("BacktestStarted", message))
        elif after["phase"] == BacktestPhase.SUCCEEDED:
            events.append(BacktestEvent("BacktestSucceeded", message))
        elif after["phase"] == BacktestPhase.FAILED:
            failed = conditions[BacktestCondition.FAILED]
            note = f"{failed['reason']}: {failed['message']}"
            events.append(BacktestEvent("BacktestFailed", note, warning=True))
    previous = _conditions(before).get(BacktestCondition.BLOCKED)
    if blocked is not None and (previous is None or previous["reason"] != blocked["reason"]):
        note = f"{blocked['reason']}: {blocked['message']}"
        events.append(BacktestEvent("BacktestBlocked", note, warning=True))
    return tuple(events)


def _conditions(status: Mapping[str, Any]) -> dict[str, Any]:
    return {one["type"]: one for one in status.get("conditions") or ()}
