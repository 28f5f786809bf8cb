"""Rendering of decisions for `r1 explain`: messages, steps of the newest decision, inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from r1_operator.cli.output import clock
from r1_operator.plan.scaling.real_time.recommendations import count_of

Decision = dict[str, Any]


def print_decisions(out: Console, name: str, decisions: Sequence[Decision]) -> None:
    """Print the decisions, oldest first; the newest one with its steps and inputs."""
    if not decisions:
        out.print(
            f"There is no scaling decision for {name} yet. Without spec.autoscaling, spec.replicas sets"
            " the count and there are no decisions."
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("TIME", "REPLICAS", "REASON", "MODE", "MESSAGE"):
        table.add_column(heading, no_wrap=heading != "MESSAGE", overflow="fold")
    for decision in decisions:
        moved = decision["replicas"] != decision["current"]
        count = f"{decision['current']} -> {decision['replicas']}"
        table.add_row(
            clock(decision["at"]),
            f"[bold]{count}[/bold]" if moved else str(decision["replicas"]),
            decision["reason"],
            decision["mode"],
            escape(decision["message"]) + _later(decision),
        )
    out.print(table)
    _print_newest(out, decisions[-1])


def _later(decision: Decision) -> str:
    """The score of the decision on its own line, once it is known."""
    later = decision.get("score")
    return f"\n[dim]outcome: {later['message']}[/dim]" if later else ""


def _print_newest(out: Console, decision: Decision) -> None:
    out.print(f"\n[bold]Steps of the newest decision, {clock(decision['at'])}[/bold]")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("STEP", "REPLICAS", "REASON", "MESSAGE"):
        table.add_column(heading, no_wrap=heading != "MESSAGE", overflow="fold")
    for step in decision["steps"]:
        table.add_row(
            step["name"],
            f"{step['before']} -> {step['after']}",
            step["reason"],
            escape(step["message"]),
        )
    out.print(table)
    wait = decision.get("nextScaleDownSeconds")
    if wait is not None:
        out.print(f"Next scale-down: in {wait:.0f} s at the earliest.")
    note = decision.get("forecast")
    if note:
        acted = "applied" if note["acting"] else "not applied"
        out.print(f"Forecast ({acted}): {escape(note['message'])}")
    approval = decision.get("forecastApproval")
    if approval:
        out.print(f"Backtest ({approval['reason']}): {escape(approval['message'])}")
    for line in _reservation_lines(decision.get("seatReservations")):
        out.print(line)
    if decision.get("hpaReplicas") is not None:
        count = count_of(decision["hpaReplicas"])
        out.print(f"A HorizontalPodAutoscaler at the same target would run {count} now.")
    if decision["inputs"]:
        out.print("\n[bold]Inputs of the newest decision[/bold]")
        table = Table(box=None, pad_edge=False, show_header=False)
        for path, value in flattened(decision["inputs"]):
            table.add_row(path, escape(value))
        out.print(table)


def _reservation_lines(reservations: Any) -> list[str]:
    """One line for each class with reserved seats."""
    if not reservations:
        return []
    if "unavailable" in reservations:
        return [f"Seat reservations: unknown. {escape(reservations['message'])}"]
    reserved = [one for one in reservations.values() if one["seats"]]
    if not reserved:
        return ["Seat reservations: none."]
    return [f"Seat reservation ({one['reason']}): {escape(one['message'])}" for one in reserved]


def flattened(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested JSON as pairs of a path `a.b` and a value with four digits."""
    if isinstance(value, dict):
        return [
            line
            for key, inner in value.items()
            for line in flattened(inner, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return [
            line
            for index, inner in enumerate(value)
            for line in flattened(inner, f"{path}[{index}]")
        ]
    return [(path, _format(value))]


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.0f}"
    if isinstance(value, list):
        return ", ".join(_format(item) for item in value) or "-"
    return "-" if value is None else str(value)
