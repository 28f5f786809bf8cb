"""For any arrivals and aborts, no block is lost and every request that fits finishes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.sequence import Finish, Sequence

BLOCK = 4

requests = st.lists(
    st.tuples(
        st.integers(0, 12),  # step of arrival
        st.integers(1, 24),  # prompt
        st.integers(1, 12),  # output
        st.one_of(st.none(), st.integers(0, 20)),  # step at which the client disconnects
        st.integers(0, 2),  # priority
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=requests, blocks=st.integers(9, 20), seats=st.integers(1, 5), budget=st.integers(5, 40)
)
def test_every_request_ends_and_every_block_is_released(
    arrivals: list[tuple[int, int, int, int | None, int]], blocks: int, seats: int, budget: int
) -> None:
    engine = Scheduler(BlockPool(blocks, BLOCK), seats, budget)
    limits: dict[Sequence, int] = {}
    live: dict[str, Sequence] = {}
    last = max(at for at, *_ in arrivals)
    for now in range(2000):
        for index, (at, prompt, output, _, priority) in enumerate(arrivals):
            if at == now:
                made = Sequence(str(index), [0] * prompt, prompt, SamplingParams(), float(now))
                made.priority = priority
                limits[made] = output
                live[made.id] = made
                engine.add(made)
        for index, (*_, leaves, _) in enumerate(arrivals):
            if leaves == now and str(index) in live:
                engine.finish(live.pop(str(index)), Finish.ABORT)
        step = engine.schedule(float(now))
        engine.check_integrity()
        assert step.tokens <= budget
        assert len({chunk.sequence for chunk in step.chunks}) == len(step.chunks)
        decoding = [chunk.count == 1 and chunk.start > 0 for chunk in step.chunks]
        assert decoding == sorted(decoding, reverse=True)
        for chunk in step.chunks:
            # Every token is computed in order, in blocks of the sequence.
            assert chunk.start == chunk.sequence.computed
            assert chunk.start + chunk.count <= len(chunk.sequence.blocks) * BLOCK
        engine.advance(step)
        for chunk in step.chunks:
            if chunk.samples:
                chunk.sequence.tokens.append(0)
                if chunk.sequence.generated >= limits[chunk.sequence]:
                    engine.finish(live.pop(chunk.sequence.id), Finish.LENGTH)
        assert step.chunks or not live, "the engine stands still with work left"
        if now > last and not live:
            break
    assert not live
    assert engine.pool.free == blocks
