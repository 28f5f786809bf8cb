"""The leaderboard as a text table and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from r1_evaluation.leaderboard.scoring import Leaderboard, LeaderboardRow

_HEADS = (
    "policy",
    "cost at SLO",
    "utilization",
    "vs hpa",
    "tuned on 1st half",
    "overload on 2nd",
    "cost at .7",
    "overload at .7",
    "actions/h",
)


def table(board: Leaderboard) -> str:
    """Return the rows in columns, the cheapest at the SLO first."""
    lines = [_HEADS, *(_cells(row, board) for row in ranked(board))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    slo = f"at most {board.max_overload:.1%} of requests overloaded"
    out = [
        f"{board.trace}, start-up {board.start_s:g} s, SLO: {slo}.",
        "Cost is replica-time over the clairvoyant minimum.",
        "",
    ]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        out.append("  ".join(cells).rstrip())
    return "\n".join(out)


def markdown(board: Leaderboard, chart: str | None = None) -> str:
    """Return the leaderboard as a Markdown section with its chart."""
    about = (
        f"SLO: at most {board.max_overload:.1%} of requests overloaded. Cost is replica-time "
        "over the clairvoyant minimum at a utilization of one. *Tuned on 1st half*: the "
        "target utilization is tuned on the first half of the window and scored on the second."
    )
    lines = [
        f"## {board.trace}, start-up {board.start_s:g} s",
        "",
        about,
        "",
        "| " + " | ".join(_HEADS) + " |",
        "|---" * len(_HEADS) + "|",
    ]
    lines += ["| " + " | ".join(_cells(row, board)) + " |" for row in ranked(board)]
    if chart:
        lines += ["", f"![cost against overload]({chart})"]
    return "\n".join(lines) + "\n"


def ranked(board: Leaderboard) -> Sequence[LeaderboardRow]:
    """Return the rows by cost at the SLO; rows that never meet it come last."""
    return sorted(board.policies, key=lambda row: (row.cost_at_slo is None, row.cost_at_slo or 0.0))


def write(board: Leaderboard, folder: Path) -> tuple[Path, Path]:
    """Write `NAME-STARTs.md` and `.png` into the folder; return their paths.

    Raises OSError when a file cannot be written.
    """
    from r1_evaluation.leaderboard.chart import draw

    folder.mkdir(parents=True, exist_ok=True)
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in board.trace)
    stem = folder / f"{plain}-{board.start_s:g}s"
    image, text = stem.with_suffix(".png"), stem.with_suffix(".md")
    draw(board, image)
    text.write_text(markdown(board, image.name))
    return text, image


def _cells(row: LeaderboardRow, board: Leaderboard) -> tuple[str, ...]:
    peer = next((other.cost_at_slo for other in board.policies if other.name == "hpa"), None)
    ratio = row.cost_at_slo / peer if row.cost_at_slo and peer else None
    tuned_on_first_half = row.tuned_on_first_half
    return (
        row.name,
        _figure(row.cost_at_slo),
        _figure(row.target_at_slo),
        _figure(ratio),
        _figure(tuned_on_first_half.cost if tuned_on_first_half else None),
        _share(tuned_on_first_half.overload) if tuned_on_first_half else "never",
        _figure(row.cost_at_u07),
        _share(row.overload_at_u07),
        f"{row.actions_per_hour:.1f}",
    )


def _figure(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}"


def _share(value: float) -> str:
    return f"{100 * value:.2f} %"
