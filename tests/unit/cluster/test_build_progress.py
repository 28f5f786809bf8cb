"""Progress lines of a series of builds."""

from pathlib import Path

import pytest

from r1_cluster.programs.build_progress import BuildProgress, duration, recorded_seconds


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_durations_have_units() -> None:
    assert [duration(seconds) for seconds in (4.4, 59.4, 60, 205)] == [
        "4 s",
        "59 s",
        "1 min 0 s",
        "3 min 25 s",
    ]


def test_a_line_holds_number_elapsed_and_expected_time(tmp_path: Path) -> None:
    clock = Clock()
    progress = BuildProgress(
        "program", ("etcd", "kubelet", "pause"), tmp_path / "times.json", 40.0, print, clock
    )
    clock.now = 175.0
    assert progress.line("kubelet", 30.0) == (
        "[2/3] program kubelet: 30 s of about 40 s; all: 1 min 15 s elapsed, about 50 s left"
    )
    assert progress.line("pause", 90.0).endswith("about 0 s left")


def test_a_finished_build_is_the_next_ones_expected_time(tmp_path: Path) -> None:
    times, clock, lines = tmp_path / "cache" / "times.json", Clock(), list[str]()
    progress = BuildProgress("image", ("gateway",), times, 40.0, lines.append, clock)
    with progress.step("gateway"):
        clock.now += 12.0
    assert lines[-1] == "[1/1] image gateway built in 12 s"
    assert BuildProgress("image", ("gateway",), times, 40.0, print).expected == {"gateway": 12.0}


def test_a_failed_build_is_not_recorded(tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    progress = BuildProgress("program", ("etcd",), times, 40.0, lambda line: None)
    with pytest.raises(RuntimeError), progress.step("etcd"):
        raise RuntimeError
    assert recorded_seconds(times) == {}


@pytest.mark.parametrize("text", ["", "[1]", '{"etcd": "x"}'])
def test_unreadable_records_give_the_default(tmp_path: Path, text: str) -> None:
    times = tmp_path / "times.json"
    times.write_text(text)
    assert BuildProgress("program", ("etcd",), times, 40.0, print).expected == {"etcd": 40.0}
