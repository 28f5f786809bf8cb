"""Two and four ranks compute what one rank computes: log-probabilities and greedy tokens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from paged_steps import PagedDriver, PagedSequence, Rows, scoring_plan
from parity_cases import reference
from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.backends.step_plan import Backend
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.errors import RankLostError
from rank_pool import RankPool, rank_pool
from tiny_checkpoints import (
    quantize_to_fp8,
    write_deepseek_v3,
    write_qwen2,
    write_qwen3,
    write_qwen3_moe,
)

WRITERS = {
    "latent attention, experts": write_deepseek_v3,
    "grouped attention, dense, biases": write_qwen2,
    "grouped attention, experts": write_qwen3_moe,
    "tied head": write_qwen3,
}
LAYOUTS = {
    "tensor 2": ParallelLayout(2),
    "tensor 4": ParallelLayout(4),
    "pipeline 2": ParallelLayout(1, 2),
    "experts 2": ParallelLayout(2, 1, True),
    "experts 4": ParallelLayout(4, 1, True),
    "tensor 2, pipeline 2": ParallelLayout(2, 2),
}
PROMPTS = [[5, 6, 7], list(range(20, 57)), [9] * 16, [3]]
NEW_TOKENS = 6
BUDGET = 24  # prompts are computed in chunks, beside decoding sequences


@dataclass(frozen=True)
class Model:
    """A checkpoint, and what one rank computes."""

    folder: Path
    alone: list[PagedSequence]


def generated(backend: Backend, folder: Path) -> list[PagedSequence]:
    vocabulary = open_checkpoint(folder).description.vocab_size
    return PagedDriver(backend, vocabulary).generate(PROMPTS, NEW_TOKENS, BUDGET)


@pytest.fixture(scope="module")
def pool() -> Iterator[RankPool]:
    with rank_pool(3) as started:
        yield started


@pytest.fixture(scope="module", params=list(WRITERS))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("checkpoint")
    WRITERS[request.param](folder, seed=11)
    return Model(folder, generated(reference(open_checkpoint(folder), 1), folder))


def assert_equal(ours: list[PagedSequence], alone: list[PagedSequence], tolerance: float) -> None:
    for one, other in zip(ours, alone, strict=True):
        assert one.tokens == other.tokens
        np.testing.assert_allclose(np.array(one.logprobs), np.array(other.logprobs), atol=tolerance)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_ranks_equal_one_rank(pool: RankPool, model: Model, layout: ParallelLayout) -> None:
    with pool.divided(model.folder, layout) as (backend, losses):
        assert_equal(generated(backend, model.folder), model.alone, 1e-4)
    assert not losses


def test_fp8_blocks_that_a_slice_cuts_are_decoded_exactly(pool: RankPool, tmp_path: Path) -> None:
    write_deepseek_v3(tmp_path, seed=3, hidden_size=160, intermediate_size=280)
    quantize_to_fp8(tmp_path)
    alone = generated(reference(open_checkpoint(tmp_path), 1), tmp_path)
    with pool.divided(tmp_path, ParallelLayout(2)) as (backend, _):
        assert_equal(generated(backend, tmp_path), alone, 1e-4)


def test_bfloat16_is_exchanged(pool: RankPool, tmp_path: Path) -> None:
    write_qwen2(tmp_path, seed=3)
    exact = generated(reference(open_checkpoint(tmp_path), 1), tmp_path)
    with pool.divided(tmp_path, ParallelLayout(2), "bfloat16") as (backend, _):
        coarse = generated(backend, tmp_path)
    first = np.array([sequence.logprobs[0] for sequence in exact])
    np.testing.assert_allclose(
        np.exp([sequence.logprobs[0] for sequence in coarse]), np.exp(first), atol=0.05
    )


def test_a_step_without_outputs_returns_none_on_all_ranks(
    pool: RankPool, tiny_checkpoint: Path
) -> None:
    vocabulary = open_checkpoint(tiny_checkpoint).description.vocab_size
    with pool.divided(tiny_checkpoint, ParallelLayout(2, 2)) as (backend, _):
        driver = PagedDriver(backend, vocabulary)
        sequence = driver.sequence([5, 6, 7], 3)
        assert len(driver.step([Rows(sequence, 2, 0)]).tokens) == 0
        assert len(driver.step([Rows(sequence, 1, 1)]).tokens) == 1


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_hidden_states_of_ranks_equal_those_of_one_rank(
    pool: RankPool, tiny_checkpoint: Path, layout: ParallelLayout
) -> None:
    vocabulary = open_checkpoint(tiny_checkpoint).description.vocab_size
    sequence = PagedSequence(list(range(20, 57)), [5, 2, 9])
    plans = [
        replace(scoring_plan([Rows(sequence, 37, outputs)], vocabulary), hidden_rows=rows)
        for outputs, rows in ((0, np.arange(37, dtype=np.int32)), (1, np.array([36], np.int32)))
    ]
    alone = reference(open_checkpoint(tiny_checkpoint), 1)
    with pool.divided(tiny_checkpoint, layout) as (backend, _):
        for plan in plans:
            ours, expected = backend.step(plan), alone.step(plan)
            np.testing.assert_allclose(ours.hidden, expected.hidden, atol=1e-4)
            np.testing.assert_array_equal(ours.tokens, expected.tokens)


def test_a_killed_rank_fails_the_step_in_seconds_and_is_named(
    tiny_checkpoint: Path,
) -> None:
    vocabulary = open_checkpoint(tiny_checkpoint).description.vocab_size
    with rank_pool(1) as own, own.divided(tiny_checkpoint, ParallelLayout(2)) as (backend, losses):
        driver = PagedDriver(backend, vocabulary)
        sequence = driver.sequence([5, 6, 7], 3)
        driver.step([Rows(sequence, 2, 0)])
        started = time.monotonic()
        os.kill(own.processes[0].pid, signal.SIGKILL)
        with pytest.raises(RankLostError, match="rank 1 of 2 is lost"):
            driver.step([Rows(sequence, 1, 1)])
        assert time.monotonic() - started < 15
        assert len(losses) == 1
        with pytest.raises(RankLostError, match="rank 1 of 2 is lost"):
            driver.step([Rows(sequence, 1, 1)])
