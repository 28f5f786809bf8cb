"""What of a new status is worth an Event: it began, it cannot begin, it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_operator.api.names import BacktestCondition, BacktestPhase


@dataclass(frozen=True, slots=True)
class BacktestEvents:
    """One Event: a stable reason, a sentence, and whether a person should look."""

    reason: str
    note: str
    warning: bool = False


def events_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[BacktestEvents, ...]:
    """Compare the status as stored with the one that is written now."""
    news: list[BacktestEvents] = []
    conditions = _conditions(after)
    blocked = conditions.get(BacktestCondition.BLOCKED)
    if before.get("phase") != after["phase"]:
        words = conditions[BacktestCondition.COMPLETE]["message"]
        if after["phase"] == BacktestPhase.RUNNING and blocked is None:
            news.append(BacktestEvents("BacktestStarted", words))
        elif after["phase"] == BacktestPhase.SUCCEEDED:
            news.append(BacktestEvents("BacktestSucceeded", words))
        elif after["phase"] == BacktestPhase.FAILED:
            failed = conditions[BacktestCondition.FAILED]
            note = f"{failed['reason']}: {failed['message']}"
            news.append(BacktestEvents("BacktestFailed", note, warning=True))
    known = _conditions(before).get(BacktestCondition.BLOCKED)
    if blocked is not None and (known is None or known["reason"] != blocked["reason"]):
        note = f"{blocked['reason']}: {blocked['message']}"
        news.append(BacktestEvents("BacktestBlocked", note, warning=True))
    return tuple(news)


def _conditions(status: Mapping[str, Any]) -> dict[str, Any]:
    return {one["type"]: one for one in status.get("conditions") or ()}
