"""The thread count follows the machine: trials, changes, and their bounded cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from r1_runtime.backends.adaptive_threads import ThreadChoice

Seconds = Callable[[int, float], float]


def play(
    choice: ThreadChoice, seconds: Seconds, until: float, rows: int = 4
) -> tuple[float, list[int]]:
    """Run steps up to a time; returns the time and the counts used."""
    now, counts = 0.0, []
    while now < until:
        count = choice.count_for(rows, now)
        taken = seconds(count, now)
        now += taken
        choice.note(count, taken, now)
        counts.append(count)
    return now, counts


def test_a_neighbour_that_slows_the_threads_lowers_the_count_within_five_seconds() -> None:
    def seconds(count: int, now: float) -> float:
        return (0.02 if now > 10 else 0.005) if count == 2 else 0.009

    choice = ThreadChoice((1, 2), 2)
    play(choice, seconds, 10)
    assert choice.current == 2
    now, counts = 0.0, []
    choice = ThreadChoice((1, 2), 2)
    while now < 50:
        count = choice.count_for(4, now)
        taken = seconds(count, now)
        now += taken
        choice.note(count, taken, now)
        counts.append(count)
    assert choice.current == 1


def test_the_count_rises_again_when_the_neighbour_has_left() -> None:
    choice = ThreadChoice((1, 2), 1)
    play(choice, lambda count, _: 0.009 / count, 5)
    assert choice.current == 2


def test_trials_of_a_worse_count_cost_little() -> None:
    choice = ThreadChoice((1, 2, 4), 4)
    _, counts = play(choice, lambda count, _: 0.02 / count, 120)
    assert choice.current == 4
    assert sum(count != 4 for count in counts) < 0.02 * len(counts)


def test_steps_of_another_size_end_a_trial_without_a_change() -> None:
    choice = ThreadChoice((1, 2), 2)
    now = 0.0
    for step in range(200):
        rows = 1 + step % 2
        count = choice.count_for(rows, now)
        now += 0.001 if rows == 1 else 1.0
        choice.note(count, 0.001 if count == 1 else 1.0, now)
    assert choice.current == 2


@pytest.mark.parametrize("counts", [(1,), (3,)])
def test_one_possible_count_is_never_tried_against_another(counts: tuple[int, ...]) -> None:
    choice = ThreadChoice(counts, counts[0])
    _, used = play(choice, lambda _, __: 0.01, 10)
    assert set(used) == set(counts)
