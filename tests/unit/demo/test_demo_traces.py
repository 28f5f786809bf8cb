"""Trace files of every format, and the errors of unreadable ones."""

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from r1_demo.load.bundled_trace import servegen_m_small
from r1_evaluation.traces.load import RateTrace, RequestTrace, UnreadableTrace, bridge, inverse
from r1_evaluation.traces.readers import quantiles_of, read_trace


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def rates(trace: object) -> tuple[float | None, ...]:
    assert isinstance(trace, RateTrace)
    return trace.per_minute


@pytest.mark.parametrize("name", ["load.csv", "load.csv.gz", "load.parquet"])
def test_rates_keep_their_grid_and_their_start(tmp_path: Path, name: str) -> None:
    rows = [{"timestamp_s": 873000 + 60 * i, "requests_per_minute": 10.0 * i} for i in range(5)]
    trace = read_trace(write(tmp_path / name, rows))
    assert isinstance(trace, RateTrace)
    assert (trace.name, trace.bucket_seconds, trace.start) == ("load", 60.0, 873000.0)
    assert trace.per_minute == (0.0, 10.0, 20.0, 30.0, 40.0)


def test_requests_are_sorted_by_time(tmp_path: Path) -> None:
    rows = [
        {"timestamp_s": 1.5, "prompt_tokens": 30, "output_tokens": 3},
        {"timestamp_s": 0.0, "prompt_tokens": 10, "output_tokens": 1},
    ]
    trace = read_trace(write(tmp_path / "azure.csv.gz", rows))
    assert isinstance(trace, RequestTrace)
    assert [(r.at, r.prompt_tokens, r.output_tokens) for r in trace.requests] == [
        (0.0, 10, 1),
        (1.5, 30, 3),
    ]
    assert trace.seconds == 2.5


class TestGaps:
    def test_a_marked_bucket_is_a_gap(self, tmp_path: Path) -> None:
        rows = [{"timestamp_s": 60 * i, "requests_per_minute": 5, "gap": i == 1} for i in range(3)]
        assert rates(read_trace(write(tmp_path / "a.parquet", rows))) == (5.0, None, 5.0)

    def test_a_bucket_without_clients_and_requests_is_a_gap(self, tmp_path: Path) -> None:
        rows = [
            {"timestamp_s": 0, "requests_per_minute": 5, "active_clients": 2},
            {"timestamp_s": 600, "requests_per_minute": 0, "active_clients": 0},
            {"timestamp_s": 1200, "requests_per_minute": 0, "active_clients": 1},
        ]
        assert rates(read_trace(write(tmp_path / "a.csv", rows))) == (5.0, None, 0.0)

    def test_a_missing_bucket_is_a_gap(self, tmp_path: Path) -> None:
        rows = [{"timestamp_s": t, "requests_per_minute": 5} for t in (0, 60, 120, 240)]
        assert rates(read_trace(write(tmp_path / "a.csv", rows))) == (5.0, 5.0, 5.0, None, 5.0)

    def test_bridged_gaps_are_linear_between_their_neighbours(self) -> None:
        assert bridge((None, 2.0, None, None, 8.0, None)) == pytest.approx((2, 2, 4, 6, 8, 8))
        with pytest.raises(UnreadableTrace, match="no bucket with data"):
            bridge((None, None))


class TestSeveralSeries:
    ROWS = tuple(
        {"series": name, "timestamp_s": 60 * i, "requests_per_minute": rate}
        for name, rate in (("KO", 1.0), ("FB", 2.0))
        for i in range(3)
    )

    def test_the_first_series_by_name_is_the_default(self, tmp_path: Path) -> None:
        path = write(tmp_path / "tweets.parquet", list(self.ROWS))
        assert rates(read_trace(path)) == (2.0, 2.0, 2.0)
        assert rates(read_trace(path, "KO")) == (1.0, 1.0, 1.0)

    def test_an_unknown_series_error_lists_the_known_ones(self, tmp_path: Path) -> None:
        path = write(tmp_path / "tweets.parquet", list(self.ROWS))
        with pytest.raises(UnreadableTrace, match="it has FB, KO"):
            read_trace(path, "AAPL")

    def test_clients_of_a_service_are_summed(self, tmp_path: Path) -> None:
        rows = [
            {"service": "a", "client": c, "timestamp_s": 600 * i, "requests_per_minute": 3.0}
            for c in range(2)
            for i in range(3)
        ]
        path = write(tmp_path / "c.parquet", rows)
        assert rates(read_trace(path)) == rates(read_trace(path, "a")) == (6.0, 6.0, 6.0)
        assert rates(read_trace(path, "a/1")) == (3.0, 3.0, 3.0)
        with pytest.raises(UnreadableTrace, match="no series '7'; it has 0, 1"):
            read_trace(path, "a/7")


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"time": 1}], "needs timestamp_s with requests_per_minute"),
        ([{"timestamp_s": 0, "requests_per_minute": "x"}] * 2, "requests_per_minute is 'x'"),
        ([{"timestamp_s": 0, "requests_per_minute": -1}] * 2, "requests_per_minute is -1"),
        ([{"timestamp_s": "nan", "requests_per_minute": 1}] * 2, "timestamp_s is nan"),
        ([{"timestamp_s": 0, "requests_per_minute": 1}], "fewer than two buckets"),
    ],
)
def test_the_error_of_an_unreadable_file_names_the_cause(
    tmp_path: Path, rows: list[dict[str, Any]], error: str
) -> None:
    with pytest.raises(UnreadableTrace, match=error):
        read_trace(write(tmp_path / "bad.csv", rows))


def test_other_file_types_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(UnreadableTrace, match="are .csv, .csv.gz or .parquet"):
        read_trace(tmp_path / "a.xlsx")


def test_the_bundled_trace_has_14_days() -> None:
    trace = servegen_m_small()
    assert len(trace.per_minute) == 2016
    assert sum(rate is None for rate in trace.per_minute) == 37
    assert trace.seconds == 14 * 86_400
    assert "Apache-2.0" in trace.source
    known = [rate for rate in trace.per_minute if rate is not None]
    # 1,421 million requests, as the source says.
    assert sum(known) * 10 == pytest.approx(1.421e9, rel=0.01)


def test_an_inverse_distribution_is_linear_between_its_levels() -> None:
    quantiles = {0.0: 10.0, 0.5: 20.0, 1.0: 100.0}
    assert [inverse(quantiles, share) for share in (-1, 0, 0.25, 0.5, 0.75, 1, 2)] == [
        10.0,
        10.0,
        15.0,
        20.0,
        60.0,
        100.0,
        100.0,
    ]
    assert quantiles_of([3.0, 1.0, 2.0], (0.0, 0.5, 1.0)) == {0.0: 1.0, 0.5: 2.0, 1.0: 3.0}
    assert quantiles_of([]) == {}
