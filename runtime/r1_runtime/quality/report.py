"""An evaluation as a table."""

from __future__ import annotations

from collections.abc import Sequence

from r1_runtime.quality.figures import Difference, FigureKind
from r1_runtime.quality.result import QualityResult


def quality_table(result: QualityResult, compared: Sequence[Difference]) -> str:
    """Markdown: every figure, and its difference from the baseline with the 95 % interval."""
    changes = {each.name: each for each in compared}
    shown = [(each.name, each.kind, each.value, len(each.documents)) for each in result.figures]
    known = {name for name, *_ in shown}
    shown += [
        (each.name, each.kind, each.value, each.documents)
        for each in compared
        if each.name not in known
    ]
    lines = ["| figure | value | documents | difference | 95 % interval |", "|---|---|---|---|---|"]
    for name, kind, value, count in shown:
        change = changes.get(name)
        cells = [name, _value(kind, value), str(count), "", ""]
        if change is not None:
            cells[3:] = [f"{change.change:+.2f} {unit(kind)}", interval(change)]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        (
            f"{result.tokens} tokens in {result.cpu_seconds:.0f} CPU seconds; a decoded token reads "
            f"{result.bytes_per_token / 2**20:.1f} MiB at {result.context} tokens."
        ),
    ]
    return "\n".join(lines)


def interval(change: Difference) -> str:
    """The interval of a difference."""
    return f"{change.low:+.2f} to {change.high:+.2f}"


def unit(kind: FigureKind) -> str:
    """Unit of a difference."""
    return "%" if kind is FigureKind.PERPLEXITY else "points"


def _value(kind: FigureKind, value: float) -> str:
    return f"{value:.3f}" if kind is FigureKind.PERPLEXITY else f"{100 * value:.1f} %"
