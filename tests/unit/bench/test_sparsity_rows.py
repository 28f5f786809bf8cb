"""Rows, table and picture of `make bench-sparsity`."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1_bench.sparsity.benchmark import measured_rows
from r1_bench.sparsity.chart import draw, frontier
from r1_bench.sparsity.registry import row_modules
from r1_bench.sparsity.report import markdown
from r1_bench.sparsity.row import SparsityRow
from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.quality.evaluation_set import read_set
from r1_runtime.quality.size import TINY
from r1_runtime.quality.timing import TimingSize
from r1_runtime.tuning.measure import MeasureInput

GIVEN = MeasureInput(
    R1Config(base_model="bundled:demo", threads=1),
    read_set("sample"),
    TINY,
    TimingSize(64, 4, 32, 1),
    None,
    lambda _: None,
)
ROWS = [
    SparsityRow(
        "INT8", "a claim", "--quantization int8", "pays", (), 0.1, (0.05, 0.15), decode_ratio=0.5
    ),
    SparsityRow(
        "INT4",
        "a claim",
        "--quantization int4",
        "misses: x",
        ("x",),
        1.2,
        (1.0, 1.4),
        decode_ratio=0.4,
    ),
    SparsityRow(
        "drafts", "a claim", "--speculation ngram", "pays", same_text=1.0, decode_ratio=0.9
    ),
    SparsityRow("refused", "a claim", "--x", "refused: no experts"),
]


def test_frontier_has_the_points_that_no_other_beats() -> None:
    points = [(1.0, 0.0), (0.5, 0.1), (0.6, 0.2), (0.4, 1.0), (0.4, 2.0)]
    assert frontier(points) == [(0.4, 1.0), (0.5, 0.1), (1.0, 0.0)]


def test_table_has_a_line_per_row() -> None:
    lines = markdown(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert len({line.count("|") for line in lines}) == 1
    assert "+0.10 % (+0.05 to +0.15)" in lines[2]


def test_picture_is_drawn_also_without_a_measured_row(tmp_path: Path) -> None:
    for name, rows in (("all", ROWS), ("none", ROWS[3:])):
        draw(rows, tmp_path / f"{name}.png", "title")
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_every_module_of_rows_has_its_function() -> None:
    modules = row_modules()
    assert {"product_techniques", "copied_text"} <= set(modules)
    assert all(callable(module.rows) for module in modules.values())


def test_rows_of_one_module_are_measured() -> None:
    [row] = measured_rows(GIVEN, ["copied_text"])
    assert row.same_text == 1.0
    assert row.decode_ratio is not None


def test_unknown_module_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match="no module experts7. Fix: one of .*product_techniques"):
        list(measured_rows(GIVEN, ["experts7"]))
