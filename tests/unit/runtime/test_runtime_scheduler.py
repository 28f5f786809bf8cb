"""The scheduler without tensors: chunks, seats, blocks, preemption, priority."""

from __future__ import annotations

import pytest

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Sequence


def sequence(name: str, prompt: int, priority: int = 1, limit: int = 16) -> Sequence:
    """A limit of 1 makes the scheduler expect the end soon; these tests continue nevertheless."""
    first = 1000 * int.from_bytes(name.encode())  # no two sequences share a prefix
    tokens = list(range(first, first + prompt))
    return Sequence(
        name, tokens, prompt, SamplingParams(max_tokens=limit), arrived=0.0, priority=priority
    )


def scheduler(
    blocks: int = 16, seats: int = 4, budget: int = 8, prefix_caching: bool = True
) -> Scheduler:
    pool = BlockPool(blocks, block_size=4)
    return Scheduler(pool, seats, budget, prefix_caching=prefix_caching)


def run(engine: Scheduler, now: float = 0.0) -> Step:
    """One step in which every chunk that samples gets one more token."""
    step = engine.schedule(now)
    engine.advance(step)
    for chunk in step.chunks:
        if chunk.samples or chunk.sequence.uncomputed == 0:
            chunk.sequence.tokens.append(7)
    engine.check_integrity()
    return step


def chunks_of(step: Step) -> list[tuple[str, int, int]]:
    return [(chunk.sequence.id, chunk.start, chunk.count) for chunk in step.chunks]


def test_a_long_prompt_is_computed_in_chunks_of_the_budget() -> None:
    engine = scheduler(budget=8)
    engine.add(sequence("a", 20))
    assert [chunks_of(run(engine)) for _ in range(4)] == [
        [("a", 0, 8)],
        [("a", 8, 8)],
        [("a", 16, 4)],
        [("a", 20, 1)],
    ]


def test_decoding_continues_beside_a_prefill_and_comes_first_in_the_step() -> None:
    engine = scheduler(budget=8)
    engine.add(sequence("a", 4))
    run(engine)
    engine.add(sequence("b", 20))
    assert chunks_of(run(engine)) == [("a", 4, 1), ("b", 0, 7)]
    assert chunks_of(run(engine)) == [("a", 5, 1), ("b", 7, 7)]


def test_a_prefill_in_the_middle_leaves_a_token_for_each_sequence_behind_it() -> None:
    engine = scheduler(blocks=64, budget=8)
    engine.add(sequence("long", 40))
    run(engine)
    engine.running.append(late := sequence("late", 4))
    late.blocks = engine.pool.take(2) or []
    late.computed = 3
    assert chunks_of(run(engine)) == [("late", 3, 1), ("long", 8, 7)]


def test_seats_limit_running_sequences_and_the_rest_waits_in_order() -> None:
    engine = scheduler(seats=2, budget=8)
    for name in "abc":
        engine.add(sequence(name, 2))
    assert [name for name, _, _ in chunks_of(run(engine))] == ["a", "b"]
    engine.finish(engine.running[0], Finish.STOP)
    assert [name for name, _, _ in chunks_of(run(engine))] == ["b", "c"]


@pytest.mark.parametrize(("prefix_caching", "start"), [(False, 0), (True, 4)])
def test_youngest_sequence_is_preempted_and_continues_from_its_cached_blocks(
    prefix_caching: bool, start: int
) -> None:
    """Its second block was overwritten, its first block is still in the cache."""
    engine = scheduler(blocks=4, seats=2, budget=16, prefix_caching=prefix_caching)
    a, b = sequence("a", 7, limit=1), sequence("b", 7, limit=1)
    engine.add(a)
    engine.add(b)
    run(engine)  # both prompts: two blocks each, all four are in use
    run(engine)  # both have 8 tokens in the cache, exactly full
    step = run(engine)
    assert step.preempted == 1
    assert chunks_of(step) == [("a", 8, 1)]
    assert (b.computed, b.blocks, list(engine.waiting)) == (0, [], [b])
    engine.finish(a, Finish.STOP)
    assert chunks_of(run(engine)) == [("b", start, 9 - start)]
    assert engine.preemptions == 1


def test_oldest_sequence_is_never_preempted_for_a_younger_one() -> None:
    engine = scheduler(blocks=4, seats=4, budget=16)
    first = sequence("first", 3, limit=1)
    engine.add(first)
    for name in ("x", "y", "z"):
        engine.add(sequence(name, 3, limit=1))
    while len(first.tokens) < 16:
        run(engine)
        assert first in engine.running


def test_a_finished_sequence_leaves_once_and_frees_its_blocks() -> None:
    engine = scheduler()
    a = sequence("a", 9)
    engine.add(a)
    run(engine)
    assert engine.pool.free == 13
    assert engine.finish(a, Finish.ABORT)
    assert not engine.finish(a, Finish.STOP)
    assert (a.finish, engine.pool.free, engine.idle) == (Finish.ABORT, 16, True)


def test_waiting_sequence_can_be_aborted() -> None:
    engine = scheduler(seats=1)
    a, b = sequence("a", 2), sequence("b", 2)
    engine.add(a)
    engine.add(b)
    run(engine)
    engine.finish(b, Finish.ABORT)
    assert list(engine.waiting) == []


def test_preemption_keeps_the_time_of_the_first_step() -> None:
    engine = scheduler(blocks=4, seats=2, budget=16)
    a, b = sequence("a", 7, limit=1), sequence("b", 7, limit=1)
    engine.add(a)
    engine.add(b)
    for now in (1.0, 2.0, 3.0):
        run(engine, now)
    engine.finish(a, Finish.STOP)
    run(engine, 4.0)
    assert b.first_scheduled == 1.0


def test_sequence_longer_than_the_cache_does_not_fit() -> None:
    engine = scheduler(blocks=4)
    assert engine.fits(16)
    assert not engine.fits(17)


def test_a_block_is_not_released_twice() -> None:
    pool = BlockPool(2, 4)
    blocks = pool.take(1)
    assert blocks is not None
    pool.release(blocks)
    with pytest.raises(ValueError, match="not in use"):
        pool.release(blocks)


def test_failed_allocation_leaves_the_pool_unchanged() -> None:
    pool = BlockPool(2, 4)
    assert pool.take(3) is None
    assert pool.free == 2


def test_urgent_prompt_overtakes_a_batch_prompt_in_progress() -> None:
    engine = scheduler(blocks=64, budget=8)
    engine.add(sequence("batch", 40, priority=2))
    run(engine)
    engine.add(sequence("urgent", 10, priority=0))
    assert chunks_of(run(engine)) == [("batch", 8, 1), ("urgent", 0, 7)]
    assert chunks_of(run(engine)) == [("urgent", 7, 3), ("batch", 9, 5)]
    assert chunks_of(run(engine)) == [("urgent", 10, 1), ("batch", 14, 7)]


def test_waiting_sequences_are_ordered_by_priority_then_arrival() -> None:
    engine = scheduler(seats=1, budget=8)
    for name, priority in (("b", 2), ("n", 1), ("u", 0), ("v", 0), ("m", 1)):
        engine.add(sequence(name, 2, priority))
    assert [waiting.id for waiting in engine.waiting] == ["u", "v", "n", "m", "b"]


def test_lowest_priority_is_preempted_even_when_it_is_older() -> None:
    engine = scheduler(blocks=5, seats=2, budget=16)
    old = sequence("old", 7, priority=2, limit=1)
    urgent = sequence("urgent", 7, priority=0, limit=1)
    engine.add(old)
    run(engine)
    engine.add(urgent)
    for _ in range(2):
        run(engine)  # all five blocks are in use
    step = run(engine)  # the urgent one finds no block for its ninth token
    assert step.preempted == 1
    assert list(engine.waiting) == [old]
    assert engine.running == [urgent]
