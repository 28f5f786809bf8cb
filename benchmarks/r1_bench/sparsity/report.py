"""The rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from r1_bench.sparsity.row import SparsityRow

_HEADS = (
    *(
        "technique",
        "claim",
        "switch",
        "perplexity (95 %)",
        "retrieval of dense",
        "same greedy text",
    ),
    *("bytes/token", "decode CPU", "prefill CPU", "verdict"),
)


def markdown(rows: Sequence[SparsityRow]) -> str:
    """One line per row; ratios are shares of dense float32 or of the row's baseline."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def _cells(row: SparsityRow) -> tuple[str, ...]:
    loss = "" if row.loss is None else f"{row.loss:+.2f} %"
    if row.interval is not None:
        loss += f" ({row.interval[0]:+.2f} to {row.interval[1]:+.2f})"
    return (
        row.name,
        row.claim,
        f"`{row.switch}`",
        loss,
        _share(row.retrieval),
        _share(row.same_text),
        _ratio(row.bytes_ratio),
        _ratio(row.decode_ratio),
        _ratio(row.prefill_ratio),
        row.verdict,
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
