"""Draft tokens: prompt lookup, acceptance, budgets, and unchanged output."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_model import FakeModel, generated
from r1_runtime.engine.blocks import BlockPool
from r1_runtime.engine.engine import Engine
from r1_runtime.engine.messages import EngineState, Output, Request, SampledRow
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Scheduler, Step
from r1_runtime.engine.sequence import Sequence
from r1_runtime.engine.speculation import accepted_length, may_draft, ngram_draft

BLOCK = 4
VOCABULARY = 3


@pytest.mark.parametrize(
    ("drafts", "sampled", "accepted"),
    [
        ((), (5,), 0),
        ((5, 6), (5, 6, 7), 2),
        ((5, 6), (5, 7, 8), 1),
        ((5, 6), (4, 6, 8), 0),
        ((5, 6), (5, None, 8), 1),
        ((5,), (), 0),
    ],
)
def test_drafts_are_accepted_up_to_the_first_difference(
    drafts: tuple[int, ...], sampled: tuple[int | None, ...], accepted: int
) -> None:
    assert accepted_length(drafts, sampled) == accepted


@pytest.mark.parametrize(
    ("tokens", "most", "draft"),
    [
        ([1, 2, 3, 4, 1, 2], 3, [3, 4, 1]),
        ([1, 2, 3, 4, 1, 2], 1, [3]),
        ([1, 2, 7, 1, 2, 8, 1, 2], 1, [8]),  # the last occurrence
        ([5, 1, 2, 7, 6, 1, 2, 8, 5, 1, 2], 1, [7]),  # the longer suffix
        ([1, 1, 1, 1], 4, [1]),
        ([1, 2, 3], 4, []),
        ([1], 4, []),
        ([], 4, []),
        ([1, 2, 3, 1, 2], 0, []),
        ([0, 256, 0, 1, 0, 256], 2, [0, 1]),
    ],
)
def test_draft_follows_the_last_occurrence_of_the_longest_suffix(
    tokens: list[int], most: int, draft: list[int]
) -> None:
    assert ngram_draft(tokens, most) == draft


def naive_draft(tokens: list[int], most: int) -> list[int]:
    for size in (4, 3, 2):
        for at in range(len(tokens) - size - 1, -1, -1):
            if len(tokens) > size and tokens[at : at + size] == tokens[-size:]:
                return tokens[at + size : at + size + most]
    return []


@settings(max_examples=500)
@given(
    tokens=st.lists(st.sampled_from([0, 1, 255, 256, 65536, 2**40]), max_size=40),
    most=st.integers(0, 6),
)
def test_ngram_draft_equals_a_plain_search(tokens: list[int], most: int) -> None:
    assert ngram_draft(tokens, most) == naive_draft(tokens, most)


class Drafts:
    """Proposes the model's own tokens, with some of them changed."""

    def __init__(self, wrong: list[bool]) -> None:
        self._wrong = wrong
        self._calls = 0

    def __call__(self, sequence: Sequence, most: int) -> list[int]:
        drafts = generated(sequence.tokens, most, VOCABULARY)
        for index in range(most):
            self._calls += 1
            if self._wrong[self._calls % len(self._wrong)]:
                drafts[index] = (drafts[index] + 1) % VOCABULARY
        return drafts


class Results:
    """An engine with the fake model, run in this thread."""

    def __init__(self, scheduler: Scheduler, model: FakeModel) -> None:
        self.scheduler = scheduler
        self.tokens: dict[str, int] = {}
        self.text: dict[str, str] = {}
        self.engine = Engine(scheduler, model, self.decode, [], self.deliver)

    @staticmethod
    def decode(tokens: object) -> str:
        assert isinstance(tokens, list | tuple)
        return "".join("abc"[token] for token in tokens)

    def deliver(self, outputs: list[Output], state: EngineState) -> None:
        for output in outputs:
            self.text[output.request_id] = self.text.get(output.request_id, "") + output.text

    def run(self, requests: list[Request]) -> None:
        for request in requests:
            self.engine._admit(request)
        for _ in range(2000):
            if self.scheduler.idle:
                return
            self.engine.step()
            self.scheduler.check_integrity()
        raise AssertionError("the requests do not end")


@settings(max_examples=150, deadline=None)
@given(
    prompts=st.lists(
        st.tuples(
            st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=14), st.integers(1, 24)
        ),
        min_size=1,
        max_size=5,
    ),
    wrong=st.lists(st.booleans(), min_size=1, max_size=7),
    blocks=st.integers(12, 30),
    seats=st.integers(1, 4),
    budget=st.integers(4, 30),
    most=st.integers(1, 6),
)
def test_output_with_drafts_equals_the_output_without(
    prompts: list[tuple[list[int], int]],
    wrong: list[bool],
    blocks: int,
    seats: int,
    budget: int,
    most: int,
) -> None:
    scheduler = Scheduler(
        BlockPool(blocks, BLOCK),
        seats,
        budget,
        step_seconds=None,
        drafter=Drafts(wrong),
        max_drafts=most,
    )
    results = Results(scheduler, FakeModel(blocks, BLOCK, VOCABULARY))
    results.run(
        [
            Request(str(index), tuple(prompt), SamplingParams(max_tokens=output), 0.0)
            for index, (prompt, output) in enumerate(prompts)
        ]
    )
    for index, (prompt, output) in enumerate(prompts):
        expected = Results.decode(generated(prompt, output, VOCABULARY))
        assert results.text[str(index)] == expected
    assert scheduler.pool.free == blocks


def test_right_drafts_divide_the_number_of_steps() -> None:
    def steps(drafts: int) -> int:
        model = FakeModel(30, BLOCK, VOCABULARY)
        scheduler = Scheduler(
            BlockPool(30, BLOCK),
            1,
            16,
            step_seconds=None,
            drafter=Drafts([False]) if drafts else None,
            max_drafts=drafts,
        )
        results = Results(scheduler, model)
        count = 0
        plain = model.execute

        def counting(step: Step) -> list[SampledRow]:
            nonlocal count
            count += 1
            return plain(step)

        model.execute = counting  # type: ignore[method-assign]
        results.run([Request("a", (1, 2), SamplingParams(max_tokens=41), 0.0)])
        return count

    assert (steps(0), steps(3)) == (41, 11)


def test_stop_string_within_accepted_drafts_ends_the_text_there() -> None:
    expected = Results.decode(generated((1, 2), 30, VOCABULARY))
    stop = expected[6:9]
    scheduler = Scheduler(
        BlockPool(30, BLOCK), 1, 16, step_seconds=None, drafter=Drafts([False]), max_drafts=5
    )
    results = Results(scheduler, FakeModel(30, BLOCK, VOCABULARY))
    params = SamplingParams(max_tokens=30, stop=(stop,))
    results.run([Request("a", (1, 2), params, 0.0)])
    assert results.text["a"] == expected[: expected.find(stop)]


def decoding(tokens: list[int], limit: int = 100) -> Sequence:
    return Sequence("a", tokens, len(tokens), SamplingParams(max_tokens=limit), 0.0)


def advance(engine: Scheduler, one: Sequence) -> None:
    engine.advance(engine.schedule(0.0))
    one.tokens.append(9)


def always(sequence: Sequence, most: int) -> list[int]:
    return [7] * most


def test_prompts_take_the_budget_before_drafts() -> None:
    engine = Scheduler(BlockPool(30, BLOCK), 4, 10, drafter=always, step_seconds=None)
    engine.add(one := decoding([1, 2, 3]))
    advance(engine, one)
    engine.add(Sequence("b", list(range(50, 57)), 7, SamplingParams(), 0.0))
    step = engine.schedule(0.0)
    assert [(chunk.sequence.id, chunk.rows) for chunk in step.chunks] == [("a", 3), ("b", 7)]
    assert step.chunks[0].drafts == (7, 7)


def test_drafts_stay_below_the_output_limit() -> None:
    engine = Scheduler(BlockPool(30, BLOCK), 4, 10, drafter=always, step_seconds=None)
    engine.add(one := decoding([1, 2, 3], limit=3))
    advance(engine, one)
    assert engine.schedule(0.0).chunks[0].drafts == (7,)


def test_drafts_use_only_free_blocks() -> None:
    engine = Scheduler(BlockPool(2, BLOCK), 4, 10, drafter=always, step_seconds=None)
    engine.add(one := decoding([1, 2, 3, 4, 5]))
    advance(engine, one)
    step = engine.schedule(0.0)
    assert (step.chunks[0].drafts, step.preempted) == ((7, 7), 0)
    engine.check_integrity()


def test_rejected_drafts_leave_no_tokens_and_no_shared_block() -> None:
    engine = Scheduler(BlockPool(8, BLOCK), 4, 10, drafter=always, step_seconds=None)
    engine.add(one := decoding([1, 2, 3]))
    advance(engine, one)
    step = engine.schedule(0.0)
    engine.advance(step, [1])
    assert (one.tokens, one.computed) == ([1, 2, 3, 9, 7], 5)
    engine.check_integrity()
    engine.advance(Step(()))


def test_unlearned_duration_allows_no_drafts() -> None:
    engine = Scheduler(BlockPool(8, BLOCK), 4, 10, drafter=always)
    engine.add(one := decoding([1, 2, 3]))
    advance(engine, one)
    assert engine.schedule(0.0).chunks[0].drafts == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"logprobs": 0},
        {"repetition_penalty": 1.1},
        {"presence_penalty": 0.5},
        {"frequency_penalty": -0.5},
        {"min_tokens": 5},
    ],
    ids=str,
)
def test_a_sequence_whose_rows_depend_on_each_other_has_no_drafts(
    changes: dict[str, float],
) -> None:
    engine = Scheduler(BlockPool(30, BLOCK), 4, 10, drafter=always, step_seconds=None)
    params = SamplingParams(max_tokens=100, **changes)  # type: ignore[arg-type]
    engine.add(one := Sequence("a", [1, 2, 3], 3, params, 0.0))
    advance(engine, one)
    assert engine.schedule(0.0).chunks[0].drafts == ()


def test_a_constrained_sequence_has_no_drafts() -> None:
    one = decoding([1, 2])
    assert may_draft(one)
    one.constraint = object()  # type: ignore[assignment]
    assert not may_draft(one)


def test_drafts_begin_after_min_tokens() -> None:
    one = Sequence("a", [1, 2, 3], 3, SamplingParams(max_tokens=9, min_tokens=2), 0.0)
    assert not may_draft(one)
    one.tokens += [4, 5]
    assert may_draft(one)


def test_draft_tokens_are_counted() -> None:
    engine = Scheduler(BlockPool(8, BLOCK), 4, 10, drafter=always, step_seconds=None)
    engine.add(one := decoding([1, 2, 3]))
    advance(engine, one)
    step = engine.schedule(0.0)
    engine.advance(step, [1])
    assert (engine.drafts, engine.draft_tokens, engine.accepted_tokens) == (1, 4, 1)


@pytest.mark.parametrize("row_seconds", [0.001, 0.02])
def test_steps_longer_than_the_limit_still_have_drafts_that_add_little(row_seconds: float) -> None:
    engine = Scheduler(BlockPool(8, BLOCK), 4, 10, drafter=always, step_seconds=0.05)
    for rows in (1, 2, 4, 8) * 4:
        engine.step_cost.observe(rows, 4 * rows, 0.08 + row_seconds * rows)
    engine.add(one := decoding([1, 2, 3]))
    advance(engine, one)
    drafts = engine.schedule(0.0).chunks[0].drafts
    assert len(drafts) == (4 if row_seconds == 0.001 else 1)
