"""The thread count follows the machine: trials, changes, and their bounded cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from r1_runtime.backends.adaptive_threads import ThreadChoice, thread_candidates

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


def settled(counts: tuple[int, ...], current: int) -> ThreadChoice:
    """A choice whose start has ended."""
    return ThreadChoice(counts, current, settled=True)


@pytest.mark.parametrize(
    ("cpus", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2, 3]), (9, [1, 2, 4, 8])]
)
def test_one_of_three_or_more_cpus_stays_free_for_http(cpus: int, counts: list[int]) -> None:
    assert thread_candidates(cpus) == counts


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 1.0, 2: 0.95}, 1),
        ({1: 1.0, 2: 0.55, 4: 0.3}, 4),
        ({1: 1.0, 2: 0.55, 4: 0.5}, 2),
        ({1: 1.0, 2: 13.0}, 1),
    ],
)
def test_at_start_trials_follow_each_other_until_more_threads_have_no_clear_gain(
    seconds: dict[int, float], chosen: int
) -> None:
    choice = ThreadChoice(tuple(seconds))
    now, steps = 0.0, 0
    while not choice.settled:
        count = choice.count_for(1, now)
        now += seconds[count]
        choice.note(count, seconds[count], now)
        steps += 1
    assert choice.current == chosen
    assert steps <= 8 * (len(seconds) - 1)
    assert (
        f"Using {chosen} threads by measurement of a step: 1: 1000.0 ms, 2: " in choice.describe()
    )


def test_a_single_count_needs_no_measurement() -> None:
    choice = ThreadChoice((1,))
    assert choice.settled
    assert choice.describe() == "Using 1 threads: no other count is possible"


def test_a_sudden_slowdown_starts_a_trial_long_before_the_next_regular_one() -> None:
    arrival = 200.0  # the pause between regular trials has grown to 32 s
    choice = settled((1, 2), 2)

    def seconds(count: int, now: float) -> float:
        return (0.02 if now > arrival else 0.005) if count == 2 else 0.009

    now, last = 0.0, 0.0
    while now < arrival + 32:
        count = choice.count_for(4, now)
        taken = seconds(count, now)
        now += taken
        choice.note(count, taken, now)
        if count == 2 and choice.current == 2:
            last = now
    assert choice.current == 1
    assert last < arrival + 1.5


def test_slowly_growing_steps_start_no_trial() -> None:
    choice = settled((1, 2), 2)
    now, trials = 0.0, 0
    for step in range(4000):  # a context that grows
        count = choice.count_for(1, now)
        taken = (0.01 + step * 1e-5) * (2 if count == 1 else 1)
        now += taken
        choice.note(count, taken, now)
        trials += count == 1
    assert trials < 40


def test_a_neighbour_that_slows_the_threads_lowers_the_count_within_five_seconds() -> None:
    def seconds(count: int, now: float) -> float:
        return (0.02 if now > 10 else 0.005) if count == 2 else 0.009

    choice = settled((1, 2), 2)
    play(choice, seconds, 10)
    assert choice.current == 2
    now, counts = 0.0, []
    choice = settled((1, 2), 2)
    while now < 50:
        count = choice.count_for(4, now)
        taken = seconds(count, now)
        now += taken
        choice.note(count, taken, now)
        counts.append(count)
    assert choice.current == 1


def test_the_count_rises_again_when_the_neighbour_has_left() -> None:
    choice = settled((1, 2), 1)
    play(choice, lambda count, _: 0.009 / count, 5)
    assert choice.current == 2


def test_trials_of_a_worse_count_cost_little() -> None:
    choice = settled((1, 2, 4), 4)
    _, counts = play(choice, lambda count, _: 0.02 / count, 120)
    assert choice.current == 4
    assert sum(count != 4 for count in counts) < 0.02 * len(counts)


def test_steps_of_another_size_end_a_trial_without_a_change() -> None:
    choice = settled((1, 2), 2)
    now = 0.0
    for step in range(200):
        rows = 1 + step % 2
        count = choice.count_for(rows, now)
        now += 0.001 if rows == 1 else 1.0
        choice.note(count, 0.001 if count == 1 else 1.0, now)
    assert choice.current == 2


@pytest.mark.parametrize("counts", [(1,), (3,)])
def test_one_possible_count_is_never_tried_against_another(counts: tuple[int, ...]) -> None:
    choice = settled(counts, counts[0])
    _, used = play(choice, lambda _, __: 0.01, 10)
    assert set(used) == set(counts)
