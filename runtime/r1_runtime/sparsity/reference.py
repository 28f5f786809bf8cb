"""Sparse attention in torch: readable, the oracle of the native kernels.

The rows of a tile (the positions that attend together, with the query heads of one key head) share a
selection. `attend` computes one tile; `tiles` divides the rows of a step as the native step does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from r1_runtime.sparsity.heads import HeadMode
from r1_runtime.sparsity.policy import UNIT, DynamicSparseAttention

_TILE_ROWS = 64  # most query rows of a tile of a prompt


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows [begin, end) of a sequence's part of a step; dense or sharing one selection."""

    begin: int
    end: int
    sparse: bool


def tile_positions(heads_per_key: int) -> int:
    """Positions of an aligned tile of a prompt: a power of two that divides a unit."""
    positions = UNIT
    while positions > 1 and positions * heads_per_key > _TILE_ROWS:
        positions //= 2
    return positions


def tiles(
    policy: DynamicSparseAttention, positions: list[int], prompt_length: int, heads_per_key: int
) -> Iterator[Tile]:
    """The tiles of adjacent rows of one sequence.

    Args:
        policy: the policy.
        positions: position of each row, ascending by one.
        prompt_length: position from which rows are generated tokens; each is a tile of its own.
        heads_per_key: query heads that share a key head.
    """
    size = tile_positions(heads_per_key)

    def sparse(position: int) -> bool:
        if position >= prompt_length:
            return position + 1 >= policy.from_context
        return policy.prompts and position // size * size + 1 >= policy.from_context

    begin, count = 0, len(positions)
    while begin < count and not sparse(positions[begin]):
        begin += 1
    if begin:
        yield Tile(0, begin, sparse=False)
    while begin < count:
        end = begin + 1
        if positions[begin] < prompt_length:
            while end < count and positions[end] < prompt_length and positions[end] % size:
                end += 1
        yield Tile(begin, end, sparse=True)
        begin = end


def attend_rows(
    policy: DynamicSparseAttention,
    mode: HeadMode,
    queries: Tensor,
    positions: Tensor,
    prompt_length: int,
    keys: Tensor,
    values: Tensor,
    tile_heads: int | None = None,
) -> Tensor:
    """Attention of adjacent rows of one sequence with one key head.

    Args:
        policy: the policy.
        mode: of the key head.
        queries: [n, heads, d] scaled queries of the heads that share the key head.
        positions: [n] position of each row.
        prompt_length: position from which rows are generated tokens.
        keys: [S, d] keys of the context, by position.
        values: [S, v].
        tile_heads: heads that decide the size of tiles, where heads that share a key choose in
            groups; None for `heads`.

    Returns:
        [n, heads, v].
    """
    count, heads, _ = queries.shape
    mixed = queries.new_empty(count, heads, values.shape[-1])
    for tile in tiles(policy, positions.tolist(), prompt_length, tile_heads or heads):
        rows = slice(tile.begin, tile.end)
        each = positions[rows].repeat_interleave(heads)
        kind = mode if tile.sparse else HeadMode.DENSE
        out, _ = attend(policy, kind, queries[rows].flatten(0, 1), each, keys, values)
        mixed[rows] = out.view(tile.end - tile.begin, heads, -1)
    return mixed


def attend(
    policy: DynamicSparseAttention,
    mode: HeadMode,
    queries: Tensor,
    positions: Tensor,
    keys: Tensor,
    values: Tensor,
) -> tuple[Tensor, float]:
    """Attention of one tile.

    Args:
        policy: the policy.
        mode: of the key head.
        queries: [R, d] scaled queries.
        positions: [R] position of each row; the smallest and the largest bound the selection.
        keys: [S, d] keys of the context, by position.
        values: [S, v].

    Returns:
        [R, v], and the share of the context that was read.
    """
    first, last = int(positions.min()), int(positions.max())
    length = last + 1
    keys, values = keys[:length], values[:length]
    scores = queries @ keys.T
    scores = scores.masked_fill(torch.arange(length) > positions[:, None], -math.inf)
    if mode is HeadMode.DENSE:
        return scores.softmax(-1) @ values, 1.0
    start, end = candidates(policy, mode, first)
    read = torch.ones(-(-length // UNIT), dtype=torch.bool)
    read[start:end] = False
    if mode is HeadMode.SPARSE and end > start:
        units = keys[start * UNIT : end * UNIT].view(end - start, UNIT, -1)
        chosen = select(policy, coarse_scores(policy, queries, units).softmax(-1).amax(0))
        read[start:end] = chosen
        if policy.correction:
            dropped = queries @ units.mean(1).T + math.log(UNIT)
            dropped = dropped.masked_fill(chosen, -math.inf)
            means = values[start * UNIT : end * UNIT].view(end - start, UNIT, -1).mean(1)
            scores = torch.cat([scores, dropped], dim=1)
            values = torch.cat([values, means])
    tokens = read.repeat_interleave(UNIT)[:length]
    scores[:, :length] = scores[:, :length].masked_fill(~tokens, -math.inf)
    return scores.softmax(-1) @ values, float(read.float().mean())


def candidates(policy: DynamicSparseAttention, mode: HeadMode, first: int) -> tuple[int, int]:
    """Units [start, end) between the sinks and the last units, for a tile that starts at `first`."""
    recent = policy.window_units if mode is HeadMode.WINDOW else policy.recent_units
    start = policy.sink_units
    return start, max(start, first // UNIT - recent + 1)


def coarse_scores(policy: DynamicSparseAttention, queries: Tensor, units: Tensor) -> Tensor:
    """[R, U] scores of queries [R, d] and the keys of units [U, 16, d]."""
    half_range = (units.amax(1) - units.amin(1)) / 2
    return queries @ units.mean(1).T + policy.spread * (queries.abs() @ half_range.T)


def select(policy: DynamicSparseAttention, mass: Tensor) -> Tensor:
    """[U] True for the units to read, by their coarse mass [U]; equal masses rank by position."""
    order = mass.argsort(descending=True, stable=True)
    kept = policy.kept(len(mass))
    least, most = policy.bounds(kept)
    count = most
    if policy.adaptive:
        held = mass[order[:kept]].double().cumsum(0)
        count = int((held < policy.mass * held[-1]).sum()) + 1 if kept else 0
        count = max(least, min(most, count))
    chosen = torch.zeros(len(mass), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen
