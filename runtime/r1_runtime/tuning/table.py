"""Measurements as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from r1_runtime.quality.figures import Difference
from r1_runtime.quality.timing import TimeRatio
from r1_runtime.tuning.measurement import Measurement

_HEADS = (
    "technique",
    "claim",
    "switch",
    "perplexity (95 %)",
    "retrieval",
    "same greedy text",
    "bytes/token",
    "decode CPU",
    "prefill CPU",
    "verdict",
)


def techniques_table(rows: Sequence[Measurement]) -> str:
    """One row per technique; ratios are of dense FP32, CPU times of the technique's baseline."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def _cells(row: Measurement) -> tuple[str, ...]:
    greedy = row.difference("same greedy text")
    same = row.equal_texts if greedy is None else greedy.value
    return (
        row.technique.name,
        row.technique.claim,
        f"`{row.technique.switch()}`",
        _loss(row.loss),
        _retrieval(row.difference("retrieval")),
        "" if same is None else f"{same:.1%}",
        "" if row.bytes_ratio is None else f"{row.bytes_ratio:.2f}",
        _ratio(row.decode),
        _ratio(row.prefill),
        row.verdict(),
    )


def _loss(loss: Difference | None) -> str:
    if loss is None:
        return ""
    return f"{loss.change:+.2f} % ({loss.low:+.2f} to {loss.high:+.2f})"


def _retrieval(change: Difference | None) -> str:
    return "" if change is None else f"{change.value:.0%} of {change.baseline:.0%}"


def _ratio(ratio: TimeRatio | None) -> str:
    return "" if ratio is None else f"{ratio.median:.2f}"
