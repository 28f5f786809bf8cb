"""The reference backend's cache and its answers to rows that are not finite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from paged_steps import BLOCK_COUNT, BLOCK_SIZE, PagedDriver, Rows
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import Backend, StepPlan
from r1_runtime.checkpoint.open import open_checkpoint


def backend_of(folder: Path) -> ReferenceBackend:
    return ReferenceBackend(load_network(open_checkpoint(folder)), BLOCK_COUNT, BLOCK_SIZE)


def driver_of(folder: Path) -> PagedDriver:
    backend: Backend = backend_of(folder)
    return PagedDriver(backend, open_checkpoint(folder).description.vocab_size)


def spoil(driver: PagedDriver, block: int) -> None:
    assert isinstance(driver.backend, ReferenceBackend)
    for cache in driver.backend.caches:
        cache[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE] = torch.nan


def test_non_finite_values_in_another_sequence_s_cache_change_nothing(
    tiny_checkpoint: Path,
) -> None:
    prompts = [[5, 6], [5] * 40]
    results = []
    for spoiled in (False, True):
        driver = driver_of(tiny_checkpoint)
        sequences = [driver.sequence(prompt, len(prompt)) for prompt in prompts]
        outside = driver.sequence([], BLOCK_SIZE)
        if spoiled:
            spoil(driver, outside.blocks[0])
        driver.step([Rows(s, len(s.tokens) - 1, 0) for s in sequences])
        results.append(driver.step([Rows(s, 1, 1) for s in sequences]))
    assert np.isfinite(results[0].logprobs).all()
    assert results[0].tokens.tolist() == results[1].tokens.tolist()
    assert np.array_equal(results[0].logprobs, results[1].logprobs)


def test_a_sequence_that_is_not_finite_has_no_token_and_ends_no_other(
    tiny_checkpoint: Path,
) -> None:
    driver = driver_of(tiny_checkpoint)
    bad, good = (driver.sequence([5, 6, 7], 3) for _ in range(2))
    driver.step([Rows(bad, 2, 0), Rows(good, 2, 0)])
    spoil(driver, bad.blocks[0])
    result = driver.step([Rows(bad, 1, 1), Rows(good, 1, 1)])
    assert result.tokens[0] == -1
    assert result.tokens[1] >= 0


def test_a_step_without_outputs_returns_none(tiny_checkpoint: Path) -> None:
    driver = driver_of(tiny_checkpoint)
    sequence = driver.sequence([5, 6, 7], 3)
    assert len(driver.step([Rows(sequence, 3, 0)]).tokens) == 0


def test_a_row_attends_to_no_later_row_whatever_the_order_of_sequences(
    tiny_checkpoint: Path,
) -> None:
    """The plan's arrays alone, without the driver: two sequences of two and one rows."""
    one = np.array([0, 1, 2], np.int32)
    plan = StepPlan(
        tokens=np.array([5, 6, 5], np.int32),
        positions=np.array([0, 1, 0], np.int32),
        query_starts=np.array([0, 2, 3], np.int32),
        context_lengths=np.array([2, 1], np.int32),
        block_starts=np.array([0, 1, 2], np.int32),
        blocks=np.array([4, 2], np.int32),
        output_rows=one,
        sampling=greedy_plan(3),
    )
    result = backend_of(tiny_checkpoint).step(plan)
    assert result.tokens[0] == result.tokens[2]
    np.testing.assert_allclose(result.logprobs[0], result.logprobs[2], atol=1e-5)
