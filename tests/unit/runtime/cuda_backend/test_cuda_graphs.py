"""Bookkeeping of decode graphs: buckets, capture once, empty rows, and what has no graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from interpreted_triton import DEVICE
from memory_checkpoint import grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.backends.cuda.graphs import Compute, DecodeGraphs, Replay, buckets_up_to
from r1_runtime.backends.cuda.step_arrays import (
    CacheShape,
    DecodeArrays,
    KernelLimits,
    StepArrays,
    step_arrays,
)
from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import StepPlan

CACHE = CacheShape(blocks=30, block_size=16, positions=64)
LIMITS = KernelLimits(itemsize=4, processors=4, expanded_rows=10)
DEVICE_OF = torch.device(DEVICE)


def decode_plan(rows: int) -> StepPlan:
    return step_plan([Row([7] * 20, 16 + at, 17 + at, [at, 9 + at]) for at in range(rows)])


def token_sums(arrays: StepArrays) -> Tensor:
    return torch.stack((arrays.tokens, arrays.tables.context_lengths, arrays.slots), dim=1)


def counting_graphs(captures: list[int]) -> DecodeGraphs:
    def capture(compute: Compute, arrays: StepArrays) -> Replay:
        captures.append(len(arrays.tokens))
        return lambda: compute(arrays)

    def arrays_of(size: int) -> DecodeArrays:
        return DecodeArrays(size, [grouped()], CACHE, LIMITS, DEVICE_OF)

    return DecodeGraphs((1, 2, 4), arrays_of, token_sums, capture)


def logits_of(graphs: DecodeGraphs, plan: StepPlan) -> Tensor:
    bucket = graphs.bucket(plan)
    assert bucket is not None
    return graphs.logits(plan, bucket)


def test_a_step_uses_the_smallest_graph_that_holds_it_and_captures_it_once() -> None:
    captures: list[int] = []
    graphs = counting_graphs(captures)
    for rows in (3, 1, 4, 3):
        assert len(logits_of(graphs, decode_plan(rows))) == rows
    assert captures == [4, 1]
    assert graphs.captured_sizes == (4, 1)


def test_rows_of_an_earlier_step_are_empty_in_a_smaller_one() -> None:
    graphs = counting_graphs([])
    logits_of(graphs, decode_plan(4))
    result = graphs.logits(decode_plan(3), 4)
    assert result.tolist() == [[7, 17, 9 * 16], [7, 18, 10 * 16 + 1], [7, 19, 11 * 16 + 2]]
    empty = graphs._graphs[4][0].arrays
    assert empty.tables.context_lengths.tolist() == [17, 18, 19, 0]
    assert empty.slots[3] == CACHE.spare_slot
    assert empty.tables.block_starts.tolist() == [0, 2, 4, 6, 6]


def test_a_prompt_and_a_batch_above_the_largest_graph_have_none() -> None:
    graphs = counting_graphs([])
    assert graphs.bucket(decode_plan(5)) is None
    assert graphs.bucket(step_plan([Row([7] * 20, 0, 2, [1])])) is None


def test_a_decode_step_with_fewer_outputs_than_rows_returns_those_rows() -> None:
    graphs = counting_graphs([])
    plan = replace(decode_plan(3), output_rows=np.array([0, 2], np.int32), sampling=greedy_plan(2))
    assert logits_of(graphs, plan)[:, 1].tolist() == [17, 19]


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_the_largest_batch_is_a_bucket(most: int, sizes: tuple[int, ...]) -> None:
    assert buckets_up_to(most) == sizes
    assert buckets_up_to(200)[-3:] == (160, 192, 200)


def test_rows_of_a_long_prompt_are_expanded_in_latent_attention_only() -> None:
    attentions = (latent(), grouped())
    plan = step_plan([Row([7] * 20, 0, 20, [3, 1]), Row([7] * 5, 4, 5, [2])])
    arrays = step_arrays(plan, attentions, CACHE, LIMITS, DEVICE_OF)
    assert [(rows.begin, rows.end) for rows in arrays.expanded] == [(0, 20)]
    assert arrays.expanded[0].context.tolist() == [*range(48, 64), *range(16, 20)]
    assert arrays.layers[attentions[0]].tiles.sequences.tolist() == [1]
    tiles = arrays.layers[attentions[1]].tiles
    assert tiles.sequences.tolist() == [0, 1]
    assert tiles.first_rows.tolist() == [0, 20]
    assert arrays.slots.tolist() == [*range(48, 64), *range(16, 20), 36]
