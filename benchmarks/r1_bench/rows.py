"""Rows of a benchmark's result, as a table and as JSON.

Absolute times mean little on shared machines, so a row has the peer's figure from the same run
and the ratio of both. `bar` is the project's limit for the ratio (without a peer: for the value),
and `ok` whether the row meets it. A row without a bar is a record.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BenchmarkRow:
    """One measured figure.

    `ratio` is ours / peer_value. `bar` is an upper bound on the ratio where there is a peer, on
    `ours` where there is none; `higher_is_better` turns it into a lower bound.
    """

    name: str
    unit: str
    ours: float
    peer: str | None = None
    peer_value: float | None = None
    bar: float | None = None
    higher_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """ours / peer_value, or None without a peer."""
        return self.ours / self.peer_value if self.peer_value else None

    @property
    def ok(self) -> bool | None:
        """Whether the bar holds; None where no bar was set."""
        if self.bar is None:
            return None
        compared = self.ratio if self.ratio is not None else self.ours
        return compared >= self.bar if self.higher_is_better else compared <= self.bar

    def to_json(self) -> dict[str, object]:
        """The row as `out/bench-*.json` holds it."""
        fields = asdict(self)
        fields.pop("higher_is_better")
        return {**fields, "ratio": self.ratio, "ok": self.ok}


def table(rows: Sequence[BenchmarkRow]) -> str:
    """The rows as a Markdown table, figures to three digits."""

    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}"

    lines = [
        "| what | unit | ours | peer | peer's | ratio | bar | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    verdicts = {True: "holds", False: "**misses**", None: ""}
    lines += [
        f"| {row.name} | {row.unit} | {figure(row.ours)} | {row.peer or '-'} | "
        f"{figure(row.peer_value)} | {figure(row.ratio)} | {figure(row.bar)} | {verdicts[row.ok]} |"
        for row in rows
    ]
    return "\n".join(lines)


def write(name: str, rows: Sequence[BenchmarkRow], folder: Path = Path("out")) -> Path:
    """Writes `out/bench-NAME.json` and prints the table; returns the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"bench-{name}.json"
    path.write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n")
    print(f"{name}, {platform.machine()}, Python {platform.python_version()}\n")
    print(table(rows))
    return path
