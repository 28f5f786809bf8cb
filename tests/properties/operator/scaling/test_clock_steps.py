"""Steps of wall clocks do not change the decisions of the scaling loop."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepped_clocks import (
    FORECASTER,
    KEY,
    MACHINES,
    NEW_GATEWAY,
    OLD_GATEWAY,
    OPERATOR,
    ClockStep,
    SteppedWorld,
)

HOUR, TEN_MINUTES, YEAR = 3600.0, 600.0, 365 * 86_400.0
LOAD = ((20.0, 120), (83.0, 160), (41.0, 140), (9.0, 220), (66.0, 100))
"""requests/s and for how many seconds"""
WHOLE = sum(seconds for _, seconds in LOAD)

steps = st.builds(
    ClockStep,
    st.sampled_from(MACHINES),
    st.floats(1, WHOLE - 10),
    st.sampled_from([-HOUR, TEN_MINUTES, YEAR]),
)


async def play(*steps: ClockStep) -> SteppedWorld:
    world = SteppedWorld(2, steps)
    await world.loop.prime()
    for rate, seconds in LOAD:
        world.rate = rate
        await world.pass_time(seconds)
    return world


_UNSTEPPED: list[list[tuple[Any, ...]]] = []


async def unstepped() -> list[tuple[Any, ...]]:
    """The outcome without steps, computed once."""
    if not _UNSTEPPED:
        _UNSTEPPED.append((await play()).outcome)
    return _UNSTEPPED[0]


def first_difference(
    stepped: list[tuple[Any, ...]], plain: list[tuple[Any, ...]]
) -> tuple[int, tuple[Any, ...], tuple[Any, ...]] | None:
    """Number of the round and both outcomes; None where all are the same."""
    pairs = zip(stepped, plain, strict=True)
    return next(((n, a, b) for n, (a, b) in enumerate(pairs) if a != b), None)


async def test_the_load_rises_falls_and_is_forecast() -> None:
    outcome = (await play()).outcome
    counts = [replicas for replicas, *_ in outcome]
    assert max(counts) >= 9
    assert counts[-1] != max(counts)
    assert any(later < earlier for earlier, later in pairwise(counts))
    reasons = {reason for _, reason, *_ in outcome}
    assert {"RateLimited", "Stabilized"} <= reasons
    assert {mode for _, _, mode, _ in outcome[5:]} == {"Predictive"}


@settings(max_examples=12, deadline=None)
@given(set_by=st.lists(steps, min_size=1, max_size=6).map(tuple))
async def test_decisions_are_the_same_whatever_wall_clocks_are_set(
    set_by: tuple[ClockStep, ...],
) -> None:
    world = await play(*set_by)
    assert first_difference(world.outcome, await unstepped()) is None


@pytest.mark.parametrize("machine", [OPERATOR, FORECASTER, NEW_GATEWAY, OLD_GATEWAY])
@pytest.mark.parametrize("by", [-HOUR, TEN_MINUTES, YEAR])
async def test_a_step_of_one_clock_at_the_peak_changes_no_decision(machine: str, by: float) -> None:
    world = await play(ClockStep(machine, 281.0, by))
    assert first_difference(world.outcome, await unstepped()) is None


@pytest.mark.parametrize("by", [-HOUR, TEN_MINUTES, YEAR])
async def test_decisions_are_shown_with_the_time_of_the_wall_clock(by: float) -> None:
    world = SteppedWorld(2, (ClockStep(OPERATOR, 50.0, by),))
    await world.loop.prime()
    await world.pass_time(100)
    shown = world.book.shown(KEY, world.clock.wall_offset())
    assert shown[-1]["at"] == pytest.approx(world.wall(OPERATOR), abs=0.01)
    apart = [later["at"] - earlier["at"] for earlier, later in pairwise(shown)]
    assert all(0 <= seconds <= 100 for seconds in apart), "no step lies between two decisions"


@pytest.mark.parametrize("seconds", [90.0, 600.0, 86_400.0])
async def test_one_low_reading_after_a_pause_of_the_process_releases_no_replica(
    seconds: float,
) -> None:
    """A stopped or suspended process did not observe the time between."""
    world = SteppedWorld(10)
    world.rate = 69.0
    await world.loop.prime()
    await world.pass_time(300)
    before = world.outcome[-1][0]
    assert before >= 10
    world.elapsed += seconds
    world.rate = 1.0
    world.queued = 0.0
    await world.pass_time(110)
    assert {replicas for replicas, *_ in world.outcome[-50:]} == {before}
