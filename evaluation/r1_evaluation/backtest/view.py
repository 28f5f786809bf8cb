"""Backtests and what-ifs as people read them: the answer first, then the figures."""

from __future__ import annotations

from pathlib import Path

from r1_evaluation.backtest.backtest import Backtest
from r1_evaluation.backtest.subject import BacktestSubject
from r1_evaluation.backtest.time_spans import spelled
from r1_evaluation.backtest.whatif import KEPT_SHARE, ReplicaSeries, SettingChange, WhatIf
from r1_evaluation.leaderboard import report
from r1_evaluation.leaderboard.fluid import ServiceOutcome
from r1_evaluation.leaderboard.scenario import STEP_SECONDS


def backtest_text(found: Backtest) -> str:
    """Return verdict, the user's own settings and the board."""
    verdict, subject = found.verdict, found.subject
    lines = [verdict.message]
    if verdict.ratio_before is not None:
        lines.append(
            "With targets tuned on the first half and scored on the second, ours costs "
            f"{verdict.ratio_before:.2f} of it."
        )
    if verdict.target_utilization_percent is not None:
        lines.append(
            f"To set: targetUtilizationPercent {verdict.target_utilization_percent}, "
            f"forecast.activation {verdict.activation}."
        )
    if subject.left_out:
        lines.append(f"Not replayed, history does not hold it: {', '.join(subject.left_out)}.")
    use = subject.policy.target_utilization
    hours = found.as_written.scored_hours
    lines += [
        "",
        f"As it is written (targetUtilizationPercent {use:.0%}), over {spelled(hours * 3600)}:",
        _outcome("ours", found.as_written.ours),
        _outcome("a plain HorizontalPodAutoscaler", found.as_written.reactive),
        "",
        report.table(found.board),
    ]
    return "\n".join(lines)


def whatif_text(
    found: WhatIf, subject: BacktestSubject, change: SettingChange, slo_ms: int | None
) -> str:
    """Return both courses and, where an objective was given, what keeps it."""
    lines = [
        f"{subject.name}, {spelled(found.hours * 3600)} lived through again",
        "",
        _course("as it is", found.as_it_is, slo_ms),
        _course(_named(change), found.changed, slo_ms),
    ]
    if slo_ms is not None:
        lines.append("")
        if found.kept is None:
            lines.append(
                f"No utilisation that was tried lets {KEPT_SHARE:.0%} of the requests wait less "
                f"than {slo_ms} ms within these bounds."
            )
        else:
            lines.append(
                f"targetUtilizationPercent {found.keeps_at_percent} lets {KEPT_SHARE:.0%} wait less "
                f"than {slo_ms} ms, for {found.kept.replica_hours:.1f} replica-hours."
            )
    return "\n".join(lines)


def write(found: Backtest, folder: Path) -> tuple[Path, ...]:
    """Write the board as Markdown and PNG, and the replay as PNG; return the paths.

    Raises OSError where that is not possible.
    """
    from r1_evaluation.backtest.picture import (
        draw,  # matplotlib takes a second; a table does without
    )

    text, curve = report.write(found.board, folder)
    replay = curve.with_name(f"{curve.stem}-replay.png")
    draw(found, replay)
    return text, curve, replay


def _outcome(name: str, found: ServiceOutcome) -> str:
    hours = found.paid * STEP_SECONDS / 3600
    return (
        f"  {name}: {hours:.1f} replica-hours, {found.overload:.2%} of requests overloaded, "
        f"{found.actions_per_hour:.1f} changes an hour"
    )


def _course(name: str, course: ReplicaSeries, slo_ms: int | None) -> str:
    late = "" if course.late is None else f", {course.late:.2%} wait longer than {slo_ms} ms"
    return (
        f"  {name}: {course.replica_hours:.1f} replica-hours, {course.overload:.2%} of requests "
        f"overloaded{late}, at most {course.most} replicas, at the maximum "
        f"{course.at_maximum_share:.0%} of the time"
    )


def _named(change: SettingChange) -> str:
    parts = [
        f"{name} {value}"
        for name, value in (
            ("min", change.min_replicas),
            ("max", change.max_replicas),
            ("utilization", change.utilization_percent),
        )
        if value is not None
    ]
    if change.no_forecast:
        parts.append("no forecast")
    return "with " + ", ".join(parts) if parts else "unchanged"
