"""Choice of the thread count from measured times."""

from __future__ import annotations

import time

import pytest

from r1_runtime.server.measure import choose_threads, measure_threads, thread_candidates


@pytest.mark.parametrize(
    ("cpus", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2, 3]), (9, [1, 2, 4, 8])]
)
def test_one_of_three_or_more_cpus_stays_free_for_http(cpus: int, counts: list[int]) -> None:
    assert thread_candidates(cpus) == counts


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0}, 1),
        ({1: 1.0, 2: 0.9}, 1),
        ({1: 1.0, 2: 0.55, 4: 0.3}, 4),
        ({1: 1.0, 2: 0.55, 4: 0.5}, 2),
        ({1: 1.0, 2: 13.0}, 1),
    ],
)
def test_more_threads_are_chosen_only_for_a_clear_gain(
    seconds: dict[int, float], chosen: int
) -> None:
    assert choose_threads(seconds) == chosen


class Machine:
    """Work that takes a known time per thread count, and the counts that were set."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.set: list[int] = []
        self.now = 0.0

    def set_threads(self, count: int) -> None:
        self.set.append(count)

    def work(self) -> None:
        self.now += self.seconds[self.set[-1]]


def test_measured_choice_is_set_and_logged_with_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({1: 0.3, 2: 0.16, 3: 0.15})
    monkeypatch.setattr(time, "perf_counter", lambda: machine.now)
    threads, line = measure_threads(machine.set_threads, machine.work, 4)
    assert threads == 2
    assert machine.set == [1, 2, 3, 2]
    assert line == (
        "Using 2 threads by measurement on 4 CPUs: 1: 300.0 ms, 2: 160.0 ms, 3: 150.0 ms"
    )


def test_slow_work_is_measured_once_per_thread_count(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({1: 30.0, 2: 20.0})
    monkeypatch.setattr(time, "perf_counter", lambda: machine.now)
    assert measure_threads(machine.set_threads, machine.work, 2)[0] == 2
    assert machine.now == 2 * 30.0 + 2 * 20.0  # a warm-up and one round


def test_one_cpu_needs_no_measurement() -> None:
    machine = Machine({})
    threads, line = measure_threads(machine.set_threads, machine.work, 1)
    assert (threads, machine.set) == (1, [1])
    assert line == "Using 1 thread: only one CPU is available"
