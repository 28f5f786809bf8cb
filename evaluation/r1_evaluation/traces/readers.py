"""Readers of trace files; the columns decide the format.

- request level: `timestamp_s, prompt_tokens, output_tokens`;
- rate level: `timestamp_s, requests_per_minute` at equal distances, with `gap` (no data) or
  `active_clients` (no clients and no requests: no data), and mean tokens where known;
- several series in one file: a `series` column, or `service` and `client`, whose clients are summed
  (`SERVICE`) or selected (`SERVICE/CLIENT`).

Files are `.csv`, `.csv.gz` or `.parquet`.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from r1_evaluation.traces.load import (
    Quantiles,
    RateTrace,
    RecordedRequest,
    RequestTrace,
    Trace,
    UnreadableTrace,
)

Rows = list[Mapping[str, Any]]
_LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def read_trace(path: Path, series: str | None = None) -> Trace:
    """Read a trace file; `series` chooses one of several in it.

    Raises UnreadableTrace for an unknown format, OSError when the file cannot be read.
    """
    rows = _rows(path)
    if not rows:
        raise UnreadableTrace(f"{path.name} has no rows")
    columns = set(rows[0])
    if {"service", "client"} <= columns:
        return _added_up(path, _of_service(path, rows, series))
    if "series" in columns:
        rows = _chosen(path, rows, "series", series)
    if {"timestamp_s", "requests_per_minute"} <= columns:
        return _rates(path, rows)
    if {"timestamp_s", "prompt_tokens", "output_tokens"} <= columns:
        return _requests(path, rows)
    raise UnreadableTrace(
        f"{path.name} has the columns {', '.join(sorted(columns))}: needs timestamp_s with "
        "requests_per_minute, or with prompt_tokens and output_tokens"
    )


def _rows(path: Path) -> Rows:
    if path.name.endswith(".parquet"):
        import pyarrow.parquet  # slow to import

        return list(pyarrow.parquet.read_table(path).to_pylist())
    if path.name.endswith(".csv.gz"):
        with gzip.open(path, "rt", newline="") as file:
            return list(csv.DictReader(file))
    if path.name.endswith(".csv"):
        with path.open(newline="") as plain:
            return list(csv.DictReader(plain))
    raise UnreadableTrace(f"{path.name}: traces are .csv, .csv.gz or .parquet files")


def _chosen(path: Path, rows: Rows, column: str, series: str | None) -> Rows:
    names = sorted({str(row[column]) for row in rows})
    wanted = names[0] if series is None else series
    if wanted not in names:
        raise UnreadableTrace(f"{path.name} has no series {wanted!r}; it has {', '.join(names)}")
    return [row for row in rows if str(row[column]) == wanted]


def _of_service(path: Path, rows: Rows, series: str | None) -> Rows:
    service, _, client = (series or "").partition("/")
    chosen = _chosen(path, rows, "service", service or None)
    return _chosen(path, chosen, "client", client) if client else chosen


def _number(path: Path, row: Mapping[str, Any], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError, KeyError):
        raise UnreadableTrace(f"{path.name}: {column} is {row.get(column)!r}, no number") from None
    if not math.isfinite(value) or value < 0:
        raise UnreadableTrace(f"{path.name}: {column} is {value}")
    return value


def _requests(path: Path, rows: Rows) -> RequestTrace:
    requests = sorted(
        (
            RecordedRequest(
                _number(path, row, "timestamp_s"),
                int(_number(path, row, "prompt_tokens")),
                int(_number(path, row, "output_tokens")),
            )
            for row in rows
        ),
        key=lambda request: request.at,
    )
    return RequestTrace(_plain_name(path), tuple(requests), path.name)


def _rates(path: Path, rows: Rows) -> RateTrace:
    rates: dict[float, float | None] = {}
    for row in rows:
        rates[_number(path, row, "timestamp_s")] = (
            None if _is_gap(row) else _number(path, row, "requests_per_minute")
        )
    return _on_a_grid(path, rates, _lengths(rows, "prompt"), _lengths(rows, "output"))


def _added_up(path: Path, rows: Rows) -> RateTrace:
    sums: dict[float, float | None] = {}
    for row in rows:
        at = _number(path, row, "timestamp_s")
        sums[at] = (sums.get(at) or 0.0) + _number(path, row, "requests_per_minute")
    return _on_a_grid(path, sums, _lengths(rows, "prompt"), _lengths(rows, "output"))


def _is_gap(row: Mapping[str, Any]) -> bool:
    if "gap" in row:
        return str(row["gap"]).lower() in ("true", "1")
    if "active_clients" in row:
        return float(row["active_clients"]) == 0 and float(row["requests_per_minute"]) == 0
    return False


def _on_a_grid(
    path: Path, rates: Mapping[float, float | None], prompt: Quantiles, output: Quantiles
) -> RateTrace:
    """Put the buckets on the grid of their most common distance; a missing bucket is a gap."""
    times = sorted(rates)
    if len(times) < 2:
        raise UnreadableTrace(f"{path.name} has fewer than two buckets")
    [(bucket, _)] = Counter(after - before for before, after in pairwise(times)).most_common(1)
    count = round((times[-1] - times[0]) / bucket) + 1
    grid: list[float | None] = [None] * count
    for at in times:
        grid[round((at - times[0]) / bucket)] = rates[at]
    return RateTrace(_plain_name(path), bucket, tuple(grid), times[0], prompt, output, path.name)


def _lengths(rows: Rows, which: str) -> Quantiles:
    column = f"mean_{which}_tokens"
    values = [float(row[column]) for row in rows if row.get(column) not in (None, "")]
    return quantiles_of([value for value in values if math.isfinite(value) and value > 0])


def quantiles_of(values: Iterable[float], levels: Sequence[float] = _LEVELS) -> dict[float, float]:
    """Return the quantiles of values; without values, none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {level: ordered[round(level * (len(ordered) - 1))] for level in levels}


def _plain_name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")
