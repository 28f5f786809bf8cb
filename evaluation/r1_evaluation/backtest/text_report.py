"""Backtest and what-if results as text: the verdict first, then the figures."""

from __future__ import annotations

from pathlib import Path

from r1_evaluation.backtest.backtest import Backtest
from r1_evaluation.backtest.duration_text import format_duration
from r1_evaluation.backtest.policy_under_test import PolicyUnderTest
from r1_evaluation.backtest.whatif import (
    CANDIDATE_PERCENT,
    OBJECTIVE_SHARE,
    SettingChange,
    SettingsOutcome,
    WhatIf,
)
from r1_evaluation.leaderboard import report
from r1_evaluation.simulator.fluid import ServiceOutcome
from r1_evaluation.traces.scenario import STEP_SECONDS


def backtest_text(result: Backtest) -> str:
    """Return verdict, outcome of the configured policy, and leaderboard."""
    verdict, candidate = result.verdict, result.candidate
    lines = [verdict.message]
    if verdict.ratio_tuned_on_first_half is not None:
        lines.append(
            "With target utilizations tuned on the first half and scored on the second, ours costs "
            f"{verdict.ratio_tuned_on_first_half:.2f} of hpa."
        )
    if verdict.target_utilization_percent is not None:
        lines.append(
            f"Suggested: targetUtilizationPercent {verdict.target_utilization_percent}, "
            f"forecast.activation {verdict.activation}."
        )
    if candidate.not_replayed:
        lines.append(f"Not replayed, no history: {', '.join(candidate.not_replayed)}.")
    use = candidate.policy.target_utilization
    hours = result.configured.scored_hours
    lines += [
        "",
        f"As configured (targetUtilizationPercent {use:.0%}), over {format_duration(hours * 3600)}:",
        _outcome("ours", result.configured.ours),
        _outcome("HPA at the same target utilization", result.configured.hpa),
        "",
        report.table(result.board),
    ]
    return "\n".join(lines)


def whatif_text(
    result: WhatIf, candidate: PolicyUnderTest, change: SettingChange, slo_ms: int | None
) -> str:
    """Return both outcomes and, with an objective, the highest utilization that meets it."""
    lines = [
        f"{candidate.name}, {format_duration(result.hours * 3600)} replayed",
        "",
        _settings_line("current settings", result.current, slo_ms),
        _settings_line(_named(change), result.changed, slo_ms),
    ]
    if slo_ms is not None:
        lines.append("")
        if result.at_highest is None:
            lines.append(
                f"No utilization from {CANDIDATE_PERCENT[0]} % to {CANDIDATE_PERCENT[-1]} % keeps "
                f"{OBJECTIVE_SHARE:.0%} of the waits below {slo_ms} ms within these bounds."
            )
        else:
            lines.append(
                f"targetUtilizationPercent {result.highest_percent} keeps {OBJECTIVE_SHARE:.0%} of the "
                f"waits below {slo_ms} ms, with {result.at_highest.replica_hours:.1f} replica-hours."
            )
    return "\n".join(lines)


def write(result: Backtest, folder: Path) -> tuple[Path, ...]:
    """Write the board as Markdown and PNG, and the replay as PNG; return the paths.

    Raises OSError when a file cannot be written.
    """
    from r1_evaluation.backtest.chart import draw

    text, curve = report.write(result.board, folder)
    replay = curve.with_name(f"{curve.stem}-replay.png")
    draw(result, replay)
    return text, curve, replay


def _outcome(name: str, result: ServiceOutcome) -> str:
    hours = result.paid * STEP_SECONDS / 3600
    return (
        f"  {name}: {hours:.1f} replica-hours, {result.overload:.2%} of requests overloaded, "
        f"{result.actions_per_hour:.1f} changes an hour"
    )


def _settings_line(name: str, outcome: SettingsOutcome, slo_ms: int | None) -> str:
    late = "" if outcome.late is None else f", {outcome.late:.2%} wait longer than {slo_ms} ms"
    return (
        f"  {name}: {outcome.replica_hours:.1f} replica-hours, {outcome.overload:.2%} of requests "
        f"overloaded{late}, at most {outcome.most} replicas, at the maximum "
        f"{outcome.at_maximum_share:.0%} of the time"
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
