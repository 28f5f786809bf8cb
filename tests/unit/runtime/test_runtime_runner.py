"""The runner's plans and results, with a backend whose results are known."""

from __future__ import annotations

from collections.abc import Sequence as Values

import numpy as np

from r1_runtime.backends.step_plan import StepPlan, StepResult
from r1_runtime.engine.runner import Runner
from r1_runtime.engine.sampling_params import SamplingParams
from r1_runtime.engine.scheduler import Chunk, Step
from r1_runtime.engine.sequence import Sequence

BLOCK = 16
GREEDY = SamplingParams(temperature=0)


class ScriptedBackend:
    """Returns token 100 + row for each output row, with log-probabilities and two alternatives."""

    def __init__(self, not_finite: Values[int] = ()) -> None:
        self.plans: list[StepPlan] = []
        self._not_finite = not_finite

    def step(self, plan: StepPlan) -> StepResult:
        self.plans.append(plan)
        rows = plan.output_rows
        targets = plan.sampling.targets
        tokens = np.where(targets >= 0, targets, 100 + rows).astype(np.int32)
        tokens[np.isin(rows, self._not_finite)] = -1
        tops = tuple(np.arange(count, dtype=np.int32) for count in plan.sampling.top_counts)
        return StepResult(
            tokens,
            -rows.astype(np.float32),
            tops,
            tuple(-top.astype(np.float32) - 1 for top in tops),
        )

    def set_threads(self, count: int) -> None:
        """The script has no threads."""

    def close(self) -> None:
        """The script has no weights."""

    def release_cache(self) -> None:
        """The script has no cache."""

    def allocate_cache(self) -> None:
        """The script has no cache."""


def sequence(
    name: str,
    length: int,
    blocks: Values[int],
    params: SamplingParams = GREEDY,
    prompt: int | None = None,
) -> Sequence:
    tokens = [10 * len(name) + at for at in range(length)]
    return Sequence(name, tokens, prompt or length, params, 0.0, list(blocks))


def lists(plan: StepPlan) -> dict[str, list[int]]:
    names = ("tokens", "positions", "query_starts", "context_lengths", "block_starts", "blocks")
    return {name: getattr(plan, name).tolist() for name in (*names, "output_rows")}


def test_mixed_step_is_one_ragged_plan() -> None:
    """A decoding sequence, the middle of a prompt, and the end of another prompt."""
    decoding = sequence("a", 18, [7, 3, 9])
    middle = sequence("bb", 40, [5, 0, 1])
    last = sequence("ccc", 20, [2, 8])
    backend = ScriptedBackend()
    chunks = (Chunk(decoding, 17, 1), Chunk(middle, 14, 3), Chunk(last, 18, 2))
    rows = Runner(backend, BLOCK).execute(Step(chunks))
    assert lists(backend.plans[0]) == {
        "tokens": [27, 34, 35, 36, 48, 49],
        "positions": [17, 14, 15, 16, 18, 19],
        "query_starts": [0, 1, 4, 6],
        "context_lengths": [18, 17, 20],
        "block_starts": [0, 2, 4, 6],
        "blocks": [7, 3, 5, 0, 2, 8],  # those of the context alone
        "output_rows": [0, 5],
    }
    assert [(row.sequence.id, row.token, row.scored) for row in rows] == [
        ("a", 100, None),
        ("ccc", 105, None),
    ]
    assert all(row.logprobs is None for row in rows)
    assert backend.plans[0].tokens.dtype == np.int32


def test_step_without_a_sampled_token_has_no_output() -> None:
    backend = ScriptedBackend()
    assert Runner(backend, BLOCK).execute(Step((Chunk(sequence("a", 9, [0]), 0, 4),))) == []
    assert lists(backend.plans[0])["output_rows"] == []


def test_each_draft_has_a_row_and_a_sampled_token_of_its_own() -> None:
    params = SamplingParams(temperature=0.7, seed=11)
    one = sequence("a", 17, [4, 6], params)
    other = sequence("bb", 3, [1])
    backend = ScriptedBackend()
    rows = Runner(backend, BLOCK).execute(
        Step((Chunk(one, 16, 1, drafts=(70, 71)), Chunk(other, 0, 3)))
    )
    plan = backend.plans[0]
    assert lists(plan) == {
        "tokens": [26, 70, 71, 20, 21, 22],
        "positions": [16, 17, 18, 0, 1, 2],
        "query_starts": [0, 3, 6],
        "context_lengths": [19, 3],
        "block_starts": [0, 2, 3],
        "blocks": [4, 6, 1],
        "output_rows": [0, 1, 2, 5],
    }
    # One draw per position, so that an accepted draft is the token of a run without drafts.
    assert plan.sampling.counters.tolist() == [17, 18, 19, 3]
    assert len(set(plan.sampling.seeds[:3].tolist())) == 1
    assert [(row.sequence.id, row.token) for row in rows] == [
        ("a", 100),
        ("a", 101),
        ("a", 102),
        ("bb", 105),
    ]


def test_scored_prompt_has_a_row_per_token_after_the_first() -> None:
    params = SamplingParams(temperature=0, prompt_logprobs=2, logprobs=1)
    scored = sequence("a", 5, [0], params)
    backend = ScriptedBackend()
    runner = Runner(backend, BLOCK)
    first = runner.execute(Step((Chunk(scored, 0, 3),)))
    second = runner.execute(Step((Chunk(scored, 3, 2),)))
    assert backend.plans[0].output_rows.tolist() == [0, 1, 2]
    assert backend.plans[0].sampling.targets.tolist() == [11, 12, 13]
    assert backend.plans[1].output_rows.tolist() == [0, 1]
    assert backend.plans[1].sampling.targets.tolist() == [14, -1]
    assert [(row.scored, row.token) for row in [*first, *second]] == [
        (1, 11),
        (2, 12),
        (3, 13),
        (4, 14),
        (None, 101),
    ]
    values = [row.logprobs for row in [*first, *second]]
    assert all(value is not None for value in values)
    assert [len(value.top) for value in values if value is not None] == [2, 2, 2, 2, 1]
    assert values[1] is not None
    assert (values[1].logprob, values[1].top) == (-1.0, ((0, -1.0), (1, -2.0)))


def test_generated_tokens_of_a_preempted_request_are_not_scored() -> None:
    params = SamplingParams(temperature=0, prompt_logprobs=0)
    again = sequence("a", 6, [0], params, prompt=3)
    backend = ScriptedBackend()
    rows = Runner(backend, BLOCK).execute(Step((Chunk(again, 0, 6),)))
    assert backend.plans[0].output_rows.tolist() == [0, 1, 5]
    assert [row.scored for row in rows] == [1, 2, None]


def test_row_that_is_not_finite_has_no_token_and_the_others_have_theirs() -> None:
    first, second = sequence("a", 2, [0]), sequence("bb", 2, [1])
    runner = Runner(ScriptedBackend(not_finite=[1]), BLOCK)
    rows = runner.execute(Step((Chunk(first, 0, 2), Chunk(second, 0, 2))))
    assert [row.token for row in rows] == [None, 103]


def test_min_tokens_exclude_the_end_tokens_that_the_runner_was_given() -> None:
    params = SamplingParams(temperature=0, min_tokens=4)
    backend = ScriptedBackend()
    Runner(backend, BLOCK, end_tokens=[5, 9]).execute(
        Step((Chunk(sequence("a", 2, [0], params), 0, 2),))
    )
    sampling = backend.plans[0].sampling
    assert sorted(sampling.adjust_tokens.tolist()) == [5, 9]
    assert (sampling.adjust_values[:, 2] == -np.inf).all()


def test_state_of_a_released_sequence_is_gone() -> None:
    params = SamplingParams(temperature=0, repetition_penalty=1.5)
    backend = ScriptedBackend()
    runner = Runner(backend, BLOCK)
    one = sequence("a", 3, [0], params)
    runner.execute(Step((Chunk(one, 0, 3),)))
    runner.release(one)
    again = sequence("a", 2, [0], params)
    runner.execute(Step((Chunk(again, 0, 2),)))
    assert backend.plans[1].sampling.adjust_tokens.tolist() == [10, 11]


def test_dummy_run_computes_a_prompt_and_single_steps_within_the_limit() -> None:
    for limit, rows in ((100, [64, 1, 1]), (40, [38, 1, 1]), (2, [1, 1]), (1, [1])):
        backend = ScriptedBackend()
        runner = Runner(backend, BLOCK)
        runner.dummy_run(64, 2, limit)
        assert [len(plan.tokens) for plan in backend.plans] == rows
        assert backend.plans[-1].context_lengths.tolist() == [min(66, limit)]
        assert runner._sampling == {}
