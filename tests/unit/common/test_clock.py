"""A clock that starts at the wall time and never steps, and its conversion to the wall clock."""

import time

import pytest

from r1_common.clock import AnchoredClock, seconds_since_boot


class Machine:
    def __init__(self) -> None:
        self.elapsed = 0.0
        self.set_by = 0.0

    def wall(self) -> float:
        return 1.8e9 + self.elapsed + self.set_by

    def monotonic(self) -> float:
        return 77.0 + self.elapsed


@pytest.mark.parametrize("step", [-3600.0, 600.0, 365 * 86_400.0])
def test_wall_clock_step_changes_displayed_times_and_no_duration(step: float) -> None:
    machine = Machine()
    clock = AnchoredClock(wall=machine.wall, monotonic=machine.monotonic)
    began = clock.now()
    assert began == pytest.approx(1.8e9)
    machine.elapsed, machine.set_by = 30.0, step
    assert clock.now() - began == pytest.approx(30.0)
    assert clock.wall_offset() == pytest.approx(step)
    assert clock.to_wall_clock(clock.now()) == pytest.approx(machine.wall())
    assert clock.to_wall_clock(began) == pytest.approx(machine.wall() - 30.0)


def test_process_clock_is_close_to_unix_time() -> None:
    assert AnchoredClock().now() == pytest.approx(time.time(), abs=5.0)


def test_the_boot_clock_does_not_go_back() -> None:
    first = seconds_since_boot()
    assert first >= 0
    assert seconds_since_boot() >= first
