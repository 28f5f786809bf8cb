"""Attention kernels of the CUDA backend against their specifications, on ragged rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from interpreted_triton import DEVICE
from r1_runtime.backends.cuda.kernels.attention import (
    PagedKeys,
    Tables,
    Tiles,
    paged_attention,
    paged_attention_reference,
    split_count,
    tile_shape,
)
from r1_runtime.backends.cuda.kernels.merge import merge_parts, merge_parts_reference

BLOCK = 16
CONTEXTS = (1, 15, 16, 17, 300)


def ints(values: Sequence[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32, device=DEVICE)


def ragged(contexts: Sequence[int], rows: Sequence[int]) -> Tables:
    """Sequences whose last rows are computed, with their blocks in random order."""
    counts = [-(-context // BLOCK) for context in contexts]
    order = np.random.default_rng(1).permutation(sum(counts) + 5)[: sum(counts)]
    positions = [at for c, n in zip(contexts, rows, strict=True) for at in range(c - n, c)]
    return Tables(
        positions=ints(positions),
        query_starts=ints([0, *np.cumsum(rows)]),
        context_lengths=ints(contexts),
        block_starts=ints([0, *np.cumsum(counts)]),
        blocks=ints(order.tolist()),
        block_size=BLOCK,
    )


def tiles_of(tables: Tables, rows: int) -> Tiles:
    starts = tables.query_starts.tolist()
    places = [
        (index, row)
        for index, (begin, end) in enumerate(pairwise(starts))
        for row in range(begin, end, rows)
    ]
    return Tiles(ints([s for s, _ in places]), ints([r for _, r in places]), rows)


def slots_of(tables: Tables) -> int:
    return (int(tables.blocks.max()) + 1) * BLOCK


def grouped_keys(slots: int, kv_heads: int, head_dim: int) -> PagedKeys:
    cache = torch.randn(slots, 2, kv_heads, head_dim, device=DEVICE)
    return PagedKeys(cache[:, 0], None, cache[:, 1])


def latent_keys(slots: int, latent: int, rotary: int) -> PagedKeys:
    cache = torch.randn(slots, 1, latent + rotary, device=DEVICE)
    key = cache[..., :latent]
    return PagedKeys(key, cache[..., latent:], key)


def compare(keys: PagedKeys, tables: Tables, heads: int, *, splits: int, decode: bool) -> None:
    width = keys.key.shape[2] + (0 if keys.rotary is None else keys.rotary.shape[2])
    query = torch.randn(len(tables.positions), heads, width, device=DEVICE)
    shape = tile_shape(heads, keys.key.shape[1], width, 4, decode=decode)
    tiles = tiles_of(tables, shape.rows)
    parts, lse = paged_attention(query, keys, tables, tiles, 0.3, splits=splits, shape=shape)
    expected, expected_lse = paged_attention_reference(query, keys, tables, 0.3)
    torch.testing.assert_close(merge_parts(parts, lse, query.dtype), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(lse.logsumexp(dim=0), expected_lse, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "splits"), [(6, 2, 24, 1), (4, 4, 16, 2), (7, 1, 32, 5)]
)
def test_grouped_query_decode_equals_dense_attention(
    heads: int, kv_heads: int, head_dim: int, splits: int
) -> None:
    torch.manual_seed(0)
    tables = ragged(CONTEXTS, [1] * len(CONTEXTS))
    keys = grouped_keys(slots_of(tables), kv_heads, head_dim)
    compare(keys, tables, heads, splits=splits, decode=True)


@pytest.mark.parametrize(("heads", "splits"), [(4, 1), (16, 5), (70, 2)])
def test_absorbed_latent_decode_equals_dense_attention(heads: int, splits: int) -> None:
    torch.manual_seed(0)
    tables = ragged(CONTEXTS, [1] * len(CONTEXTS))
    keys = latent_keys(slots_of(tables), 24, 8)
    compare(keys, tables, heads, splits=splits, decode=True)


@pytest.mark.parametrize("splits", [1, 2])
def test_prefill_of_ragged_rows_equals_dense_attention(splits: int) -> None:
    """Whole prompts, the rest of a prompt, and single rows in one launch."""
    torch.manual_seed(0)
    tables = ragged(CONTEXTS, (1, 15, 5, 17, 31))
    compare(grouped_keys(slots_of(tables), 2, 24), tables, 6, splits=splits, decode=False)
    compare(latent_keys(slots_of(tables), 20, 8), tables, 5, splits=splits, decode=False)


def test_rotary_keys_that_all_heads_share_need_no_copies() -> None:
    """The expanded form of latent attention: a key in two parts, the second one of stride 0."""
    torch.manual_seed(0)
    tables = ragged((40, 17), (40, 3))
    slots = slots_of(tables)
    shared = torch.randn(slots, 1, 8, device=DEVICE).expand(-1, 3, -1)
    key, value = (torch.randn(slots, 3, width, device=DEVICE) for width in (24, 10))
    compare(PagedKeys(key, shared, value), tables, 3, splits=1, decode=False)


def test_values_outside_of_a_context_are_not_read() -> None:
    tables = ragged((17, 3), (1, 1))
    keys = grouped_keys(slots_of(tables), 2, 16)
    blocks = tables.blocks.tolist()
    for tensor in (keys.key, keys.value):
        tensor[blocks[1] * BLOCK + 1 : (blocks[1] + 1) * BLOCK] = torch.nan
        tensor[blocks[2] * BLOCK + 3 : (blocks[2] + 1) * BLOCK] = torch.nan
    compare(keys, tables, 4, splits=2, decode=True)


def test_a_row_that_fills_a_batch_has_zeros() -> None:
    tables = ragged((17,), (1,))
    padded = Tables(
        ints([16, 0]), ints([0, 1, 2]), ints([17, 0]), ints([0, 2, 2]), tables.blocks, BLOCK
    )
    keys = grouped_keys(slots_of(tables), 2, 16)
    query = torch.randn(2, 4, 16, device=DEVICE)
    shape = tile_shape(4, 2, 16, 4, decode=True)
    tiles = tiles_of(padded, shape.rows)
    parts, lse = paged_attention(query, keys, padded, tiles, 1.0, splits=3, shape=shape)
    out = merge_parts(parts, lse, query.dtype)
    assert out[1].eq(0).all()
    assert out[0].ne(0).any()


def test_merged_parts_equal_their_weighted_mean() -> None:
    torch.manual_seed(0)
    parts = torch.randn(4, 3, 2, 20, device=DEVICE)
    lse = torch.randn(4, 3, 2, device=DEVICE)
    lse[1:, 0] = -torch.inf
    lse[:, 1] = -torch.inf
    merged = merge_parts(parts, lse, torch.float32)
    torch.testing.assert_close(merged, merge_parts_reference(parts, lse, torch.float32))
    torch.testing.assert_close(merged[0], parts[0, 0])
    assert merged[1].eq(0).all()


def test_a_context_is_split_until_the_processors_are_busy() -> None:
    assert split_count(tiles=1, longest=100, processors=132) == 1
    assert split_count(tiles=16, longest=32768, processors=132) == 17
    assert split_count(tiles=4096, longest=32768, processors=132) == 1
    assert split_count(tiles=1, longest=10**6, processors=132) == 64
