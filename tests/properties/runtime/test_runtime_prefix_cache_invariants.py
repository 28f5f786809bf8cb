"""For any arrivals with common prefixes, every output equals the one without a cache."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from fake_model import FakeModel, generated
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler
from r1_runtime.engine.sequence import Finish, Sequence

BLOCK = 4
VOCABULARY = 3


@dataclass(frozen=True)
class Arrival:
    step: int
    prompt: list[int]
    output: int
    leaves: int | None  # step at which the client disconnects, or the request fails
    fails: bool
    priority: int
    salt: str


prompts = st.tuples(
    st.sampled_from([[], [0] * 4, [0] * 8, [0] * 8 + [1] * 4, [1] * 16]),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=10),
).map(lambda parts: parts[0] + parts[1])
arrivals = st.lists(
    st.builds(
        Arrival,
        step=st.integers(0, 25),
        prompt=prompts,
        output=st.integers(1, 12),
        leaves=st.one_of(st.none(), st.integers(0, 30)),
        fails=st.booleans(),
        priority=st.integers(0, 2),
        salt=st.sampled_from(["", "", "b"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(
    requests=arrivals,
    blocks=st.integers(10, 24),
    seats=st.integers(1, 5),
    budget=st.integers(5, 40),
)
def test_cached_prefixes_do_not_change_the_generated_tokens(
    requests: list[Arrival], blocks: int, seats: int, budget: int
) -> None:
    engine = Scheduler(BlockPool(blocks, BLOCK), seats, budget)
    model = FakeModel(blocks, BLOCK, VOCABULARY)
    live: dict[int, Sequence] = {}
    for now in range(2000):
        for index, request in enumerate(requests):
            if request.step == now:
                one = Sequence(
                    str(index),
                    list(request.prompt),
                    len(request.prompt),
                    SamplingParams(max_tokens=request.output),
                    float(now),
                    priority=request.priority,
                    salt=request.salt,
                )
                live[index] = one
                engine.add(one)
            elif request.leaves == now and index in live:
                reason = Finish.ERROR if request.fails else Finish.ABORT
                engine.finish(live.pop(index), reason)
                engine.check_integrity()
        step = engine.schedule(float(now))
        engine.check_integrity()
        assert step.tokens <= budget
        for chunk in step.chunks:
            assert chunk.start == chunk.sequence.computed
            assert chunk.count > 0
        users: dict[int, set[str]] = {}
        for one in engine.running:
            for block in one.blocks:
                users.setdefault(block, set()).add(one.salt)
        assert all(len(salts) == 1 for salts in users.values()), "two salts share a block"
        sampled = model.execute(step)
        engine.advance(step)
        engine.check_integrity()
        for row in sampled:
            one = row.sequence
            assert row.token is not None
            one.tokens.append(row.token)
            if one.generated == one.params.max_tokens:
                request = requests[int(one.id)]
                expected = generated(request.prompt, request.output, VOCABULARY)
                assert one.tokens[one.prompt_length :] == expected
                engine.finish(live.pop(int(one.id)), Finish.LENGTH)
                engine.check_integrity()
        if now > 25 and not live:
            break
    assert not live
    assert engine.pool.free == blocks
    assert 0 <= engine.prefix_hits <= engine.prefix_queries
