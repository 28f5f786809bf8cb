"""A row judges itself by its ratio where a peer ran, by its value where none did."""

import json
from pathlib import Path

import pytest

from r1_bench.rows import BenchmarkRow, table, write


@pytest.mark.parametrize(
    ("row", "ok"),
    [
        (BenchmarkRow("cpu", "us", 15.0, "haproxy", 13.0, bar=1.3), True),
        (BenchmarkRow("cpu", "us", 18.0, "haproxy", 13.0, bar=1.3), False),
        (
            BenchmarkRow("tokens/s", "1/s", 30.0, "generate", 10.0, bar=2.0, higher_is_better=True),
            True,
        ),
        (BenchmarkRow("boot", "s", 31.0, bar=30.0), False),
        (BenchmarkRow("boot", "s", 9.0), None),
    ],
)
def test_a_row_holds_or_misses_its_bar(row: BenchmarkRow, ok: bool | None) -> None:
    assert row.ok is ok


def test_missed_rows_are_in_the_table() -> None:
    assert "**misses**" in table([BenchmarkRow("boot", "s", 31.0, bar=30.0)])


def test_the_file_holds_the_agreed_keys(tmp_path: Path) -> None:
    path = write("x", [BenchmarkRow("cpu", "us", 26.0, "haproxy", 13.0, bar=3.0)], tmp_path)
    (row,) = json.loads(path.read_text())
    assert row == {
        "name": "cpu",
        "unit": "us",
        "ours": 26.0,
        "peer": "haproxy",
        "peer_value": 13.0,
        "ratio": 2.0,
        "bar": 3.0,
        "ok": True,
    }
