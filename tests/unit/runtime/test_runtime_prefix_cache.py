"""Cache blocks are shared by content: hits, eviction order, salts, collisions, duplicates."""

from __future__ import annotations

import pytest

from r1_runtime.engine import block_identity
from r1_runtime.engine.block_identity import BlockIdentity
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Finish, Sequence

SIZE = 4


def sequence(name: str, tokens: list[int], salt: str = "") -> Sequence:
    return Sequence(name, list(tokens), len(tokens), SamplingParams(), arrived=0.0, salt=salt)


def scheduler(
    blocks: int = 16, seats: int = 4, budget: int = 32, prefix_caching: bool = True
) -> Scheduler:
    pool = BlockPool(blocks, SIZE)
    return Scheduler(pool, seats, budget, prefix_caching=prefix_caching)


def run(engine: Scheduler) -> Step:
    step = engine.schedule(0.0)
    engine.advance(step)
    engine.check_integrity()
    for chunk in step.chunks:
        if chunk.samples:
            chunk.sequence.tokens.append(99)
    return step


def computed(engine: Scheduler, one: Sequence) -> None:
    """Compute a sequence and end it."""
    engine.add(one)
    run(engine)
    engine.finish(one, Finish.STOP)
    engine.check_integrity()


def test_second_request_computes_only_what_follows_the_cached_prefix() -> None:
    engine = scheduler()
    computed(engine, sequence("a", list(range(10))))
    late = sequence("b", [*range(8), 50, 51])
    engine.add(late)
    (chunk,) = run(engine).chunks
    assert (chunk.start, chunk.count, late.cached_tokens) == (8, 2, 8)
    assert (engine.prefix_queries, engine.prefix_hits) == (20, 8)


def test_last_token_of_a_fully_cached_prompt_is_computed() -> None:
    engine = scheduler()
    computed(engine, sequence("a", list(range(8))))
    engine.add(sequence("b", list(range(8))))
    (chunk,) = run(engine).chunks
    assert (chunk.start, chunk.count) == (4, 4)


def test_a_running_sequence_s_prefix_is_shared_while_it_runs() -> None:
    engine = scheduler()
    first, second = sequence("a", list(range(9))), sequence("b", list(range(9)))
    engine.add(first)
    run(engine)
    engine.add(second)
    run(engine)
    assert second.blocks[:2] == first.blocks[:2]
    assert second.blocks[2] != first.blocks[2]
    engine.finish(first, Finish.STOP)
    run(engine)
    assert second.computed == 10


def test_generated_tokens_are_cached_for_the_next_turn_of_a_conversation() -> None:
    engine = scheduler()
    first = sequence("a", list(range(6)))
    engine.add(first)
    for _ in range(4):
        run(engine)
    engine.finish(first, Finish.STOP)
    engine.add(second := sequence("b", [*first.tokens[:9], 1, 2]))
    run(engine)
    assert second.cached_tokens == 8


def test_other_salt_does_not_hit() -> None:
    engine = scheduler()
    computed(engine, sequence("a", list(range(10)), salt="tenant-a"))
    for salt, cached in (("tenant-b", 0), ("", 0), ("tenant-a", 8)):
        engine.add(one := sequence(salt, list(range(10)), salt))
        run(engine)
        assert one.cached_tokens == cached
        engine.finish(one, Finish.ABORT)


def test_without_prefix_caching_every_prompt_is_computed() -> None:
    engine = scheduler(prefix_caching=False)
    computed(engine, sequence("a", list(range(10))))
    engine.add(one := sequence("b", list(range(10))))
    (chunk,) = run(engine).chunks
    assert (chunk.start, one.cached_tokens, engine.pool.cached) == (0, 0, 0)


def test_sequence_that_needs_all_of_its_rows_reads_nothing_from_the_cache() -> None:
    engine = scheduler()
    computed(engine, sequence("a", list(range(10))))
    scored = sequence("b", list(range(10)))
    scored.skip_reading_prefix_cache = True
    engine.add(scored)
    (chunk,) = run(engine).chunks
    assert (chunk.start, chunk.count, engine.prefix_queries) == (0, 10, 10)


def test_block_without_a_reference_for_longest_is_evicted_first_and_tails_before_heads() -> None:
    engine = scheduler(blocks=6)
    computed(engine, sequence("old", list(range(12))))
    computed(engine, sequence("new", list(range(100, 108))))
    # One block is empty; two more take the tail of the older sequence.
    engine.add(other := sequence("other", list(range(200, 212))))
    run(engine)
    engine.finish(other, Finish.ABORT)
    assert _cached(engine, list(range(12))) == 1
    assert _cached(engine, list(range(100, 108))) == 2


def test_a_used_prefix_is_evicted_after_an_unused_one() -> None:
    engine = scheduler(blocks=4)
    computed(engine, sequence("a", list(range(8))))
    computed(engine, sequence("b", list(range(100, 108))))
    computed(engine, sequence("a again", list(range(5))))  # uses the first block
    assert _cached(engine, list(range(8))) == 1
    assert _cached(engine, list(range(100, 108))) >= 1
    computed(engine, sequence("c", list(range(200, 212))))
    assert _cached(engine, list(range(8))) == 1
    assert _cached(engine, list(range(100, 108))) == 0


def _cached(engine: Scheduler, tokens: list[int]) -> int:
    """Number of leading blocks of the tokens that are in the cache."""
    probe = sequence("probe", tokens)
    count = 0
    while count < len(tokens) // SIZE and engine.pool.find(probe.identity(count, SIZE)) is not None:
        count += 1
    return count


def test_equal_digests_of_other_tokens_are_not_a_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_identity, "content_digest", lambda parent, tokens: b"equal")
    engine = scheduler()
    computed(engine, sequence("a", [1, 2, 3, 4, 5, 6, 7, 8, 9]))
    for tokens, cached in (
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], 8),
        ([1, 2, 3, 4, 0, 6, 7, 8, 9], 4),
        ([0, 2, 3, 4, 5, 6, 7, 8, 9], 0),  # its second block has the tokens of a cached one
        ([5, 6, 7, 8, 1, 2, 3, 4, 9], 0),
    ):
        engine.add(one := sequence("b", tokens))
        run(engine)
        assert one.cached_tokens == cached
        engine.finish(one, Finish.STOP)


def test_same_block_computed_twice_at_once_is_kept_twice_until_its_release() -> None:
    engine = scheduler()
    first, second = sequence("a", list(range(9))), sequence("b", list(range(9)))
    engine.add(first)
    engine.add(second)
    run(engine)  # both in one step
    assert not set(first.blocks) & set(second.blocks)
    table = list(second.blocks)
    engine.finish(first, Finish.STOP)
    run(engine)
    assert second.blocks == table
    engine.finish(second, Finish.STOP)
    assert engine.pool.cached == 2
    engine.check_integrity()
    assert _cached(engine, list(range(8))) == 2


def test_blocks_of_a_failed_sequence_are_not_used_again() -> None:
    engine = scheduler()
    one = sequence("a", list(range(10)))
    engine.add(one)
    run(engine)
    engine.finish(one, Finish.ERROR)
    engine.check_integrity()
    assert (engine.pool.cached, engine.pool.free) == (0, 16)


def test_blocks_of_a_step_that_failed_are_not_registered() -> None:
    engine = scheduler()
    one = sequence("a", list(range(10)))
    engine.add(one)
    engine.schedule(0.0)  # not advanced
    engine.finish(one, Finish.ABORT)
    assert engine.pool.cached == 0


def test_sequence_that_was_admitted_again_is_counted_once() -> None:
    engine = scheduler(blocks=4, seats=2)
    a, b = sequence("a", list(range(7))), sequence("b", list(range(50, 57)))
    a.params = b.params = SamplingParams(max_tokens=1)  # expected to end soon
    engine.add(a)
    engine.add(b)
    while not engine.preemptions:
        run(engine)
    engine.finish(a, Finish.STOP)
    run(engine)
    assert b in engine.running
    assert (b.cached_tokens, engine.prefix_queries, engine.prefix_hits) == (0, 14, 0)


def test_allocation_beside_shared_blocks_leaves_the_pool_unchanged_when_it_fails() -> None:
    pool = BlockPool(3, SIZE)
    (block,) = pool.take(1) or []
    pool.register(block, BlockIdentity(None, (1, 2, 3, 4)))
    pool.release([block])
    assert pool.available([block]) == 2
    assert pool.take(3, [block]) is None
    assert (pool.free, pool.cached) == (3, 1)
    pool.check_integrity()
    assert pool.take(2, [block]) is not None
    assert pool.usage == 1
    pool.check_integrity()


def test_block_that_is_not_in_use_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="not in use"):
        BlockPool(1, SIZE).register(0, BlockIdentity(None, (1, 2, 3, 4)))


def test_long_equal_prefixes_are_compared_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence of its own objects compares each block with its parent only."""
    length = 4000
    engine = scheduler(blocks=2 * length // SIZE, budget=length)
    computed(engine, sequence("a", list(range(length))))
    late = sequence("b", list(range(length)))
    for index in range(length // SIZE):
        late.identity(index, SIZE)  # a chain of other objects
    compared = 0
    plain = BlockIdentity.__eq__

    def counting(self: BlockIdentity, other: object) -> bool:
        nonlocal compared
        one, two = self, other
        while one is not two and one is not None and isinstance(two, BlockIdentity):
            compared += 1
            one, two = one.parent, two.parent  # type: ignore[assignment]
        return plain(self, other)

    monkeypatch.setattr(BlockIdentity, "__eq__", counting)
    engine.add(late)
    engine.schedule(0.0)
    assert late.cached_tokens == length - SIZE
    assert compared <= length // SIZE
