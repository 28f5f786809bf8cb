"""Every backend computes what `transformers` computes, on every path, for every family.

Log-probabilities of all tokens are compared, so an equal result means equal logits up to a constant.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from paged_steps import PagedDriver, Rows
from parity_cases import BackendOf, Pair
from tiny_checkpoints import VOCABULARY

TOLERANCE = 1e-4


def prompts(count: int, shortest: int, step: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randint(2, VOCABULARY, (shortest + step * i,), generator=generator).tolist()
        for i in range(count)
    ]


def driver_of(pair: Pair, backend_of: BackendOf) -> PagedDriver:
    return PagedDriver(backend_of(pair.checkpoint, 1), VOCABULARY)


def test_all_logits_of_a_prompt_in_one_step_agree(pair: Pair, backend_of: BackendOf) -> None:
    prompt = prompts(1, 100, 0)[0]
    theirs = pair.oracle_logprobs(prompt)
    assert theirs.std() > 0.1, "the oracle's logits are too flat to prove anything"
    driver = driver_of(pair, backend_of)
    sequence = driver.sequence(prompt, len(prompt))
    driver.step([Rows(sequence, len(prompt), len(prompt))])
    np.testing.assert_allclose(np.stack(sequence.logprobs), theirs, atol=TOLERANCE, rtol=0)


def test_greedy_tokens_of_a_ragged_batch_in_chunks_agree(pair: Pair, backend_of: BackendOf) -> None:
    """Five prompts of 3 to 63 tokens, at most 16 rows a step: chunks and single tokens mixed."""
    count = 12
    driver = driver_of(pair, backend_of)
    for sequence in driver.generate(prompts(5, 3, 15), count, budget=16):
        theirs = pair.oracle_logprobs(sequence.tokens)[-count - 1 : -1]
        assert sequence.tokens[-count:] == theirs.argmax(-1).tolist()
        np.testing.assert_allclose(np.stack(sequence.logprobs), theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk", [1, 7, 16, 33])
def test_a_prompt_in_chunks_has_the_logits_of_one_step(
    pair: Pair, backend_of: BackendOf, chunk: int
) -> None:
    prompt = prompts(1, 50, 0)[0]
    driver = driver_of(pair, backend_of)
    whole, parts = (driver.sequence(prompt, len(prompt)) for _ in range(2))
    driver.step([Rows(whole, len(prompt), len(prompt))])
    while parts.computed < len(prompt):
        rows = min(chunk, len(prompt) - parts.computed)
        driver.step([Rows(parts, rows, rows)])
    np.testing.assert_allclose(
        np.stack(parts.logprobs), np.stack(whole.logprobs), atol=TOLERANCE, rtol=0
    )


def test_several_output_rows_of_one_sequence_verify_a_draft(
    pair: Pair, backend_of: BackendOf
) -> None:
    """Rows after the prompt in one step, each with logits, beside another sequence's prompt."""
    first, second = prompts(2, 40, 9)
    driver = driver_of(pair, backend_of)
    drafted, other = driver.sequence(first, len(first)), driver.sequence(second, len(second))
    driver.step([Rows(drafted, 35, 0)])
    driver.step([Rows(other, len(second), 1), Rows(drafted, 5, 5)])
    theirs = pair.oracle_logprobs(first)[35:]
    np.testing.assert_allclose(np.stack(drafted.logprobs), theirs, atol=TOLERANCE, rtol=0)
    last = pair.oracle_logprobs(second)[-1]
    np.testing.assert_allclose(other.logprobs[0], last, atol=TOLERANCE, rtol=0)


def test_blocks_that_another_sequence_used_change_nothing(
    pair: Pair, backend_of: BackendOf
) -> None:
    first, second = prompts(2, 60, -25)
    driver = driver_of(pair, backend_of)
    before = driver.sequence(first, len(first))
    driver.step([Rows(before, len(first), 1)])
    driver.free(before)
    after = driver.sequence(second, len(second))
    assert set(after.blocks) & set(before.blocks)
    driver.step([Rows(after, len(second), len(second))])
    theirs = pair.oracle_logprobs(second)
    np.testing.assert_allclose(np.stack(after.logprobs), theirs, atol=TOLERANCE, rtol=0)
