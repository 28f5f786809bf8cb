"""The arrays of a step on the device: one int32 buffer, one copy from the host, views of it.

A captured graph reads the same buffer in every replay, so a layout has capacities: a step that is
smaller leaves rows with context length 0, whose cache entry goes to a spare slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r1_runtime.architecture.description import Attention, LatentAttention
from r1_runtime.backends.cuda.kernels.attention import (
    Tables,
    Tiles,
    TileShape,
    split_count,
    tile_shape,
)
from r1_runtime.backends.step_plan import StepPlan

Int32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The paged cache.

    Attributes:
        blocks: blocks for sequences; one more block is spare.
        block_size: tokens per block.
        positions: tokens of the longest sequence.
    """

    blocks: int
    block_size: int
    positions: int

    @property
    def slots(self) -> int:
        return (self.blocks + 1) * self.block_size

    @property
    def spare_slot(self) -> int:
        return self.blocks * self.block_size


@dataclass(frozen=True, slots=True)
class LayerTiles:
    """How the paged kernel computes the rows of a layer.

    Attributes:
        tiles: the rows, without those of `StepArrays.expanded` in latent attention.
        shape: sizes of a tile.
        splits: parts of the context.
    """

    tiles: Tiles
    shape: TileShape
    splits: int


@dataclass(frozen=True, slots=True)
class ExpandedRows:
    """Rows [begin, end) of a sequence with many rows, and the slots of its context [S]."""

    begin: int
    end: int
    context: Tensor


@dataclass(frozen=True, slots=True)
class StepArrays:
    """A step of T rows.

    Attributes:
        tokens: [T] int32.
        slots: [T] int32 slot of each row.
        tables: rows and blocks for the kernels.
        layers: tiles for each distinct attention of the network.
        expanded: sequences whose latent attention expands keys and values.
        output_rows: [S] int32 rows whose logits are computed, or None for all rows.
    """

    tokens: Tensor
    slots: Tensor
    tables: Tables
    layers: Mapping[Attention, LayerTiles]
    expanded: tuple[ExpandedRows, ...]
    output_rows: Tensor | None


@dataclass(frozen=True, slots=True)
class KernelLimits:
    """What decides the sizes of a launch.

    Attributes:
        itemsize: bytes of a value of the cache.
        processors: multiprocessors of the device.
        expanded_rows: rows of one sequence from which latent attention expands keys and values;
            below, the products in latent space are fewer.
    """

    itemsize: int
    processors: int
    expanded_rows: int


def attention_shape(attention: Attention, itemsize: int, *, decode: bool) -> TileShape:
    """Tile of the paged kernel for this attention."""
    if isinstance(attention, LatentAttention):
        return tile_shape(attention.heads, 1, attention.latent_dim, itemsize, decode=decode)
    return tile_shape(
        attention.heads, attention.kv_heads, attention.head_dim, itemsize, decode=decode
    )


def plan_slots(plan: StepPlan, block_size: int) -> Int32:
    """[T] slot of each row: block number x block size + place in the block."""
    counts = np.diff(plan.query_starts)
    first = np.repeat(plan.block_starts[:-1], counts)
    block = plan.blocks[first + plan.positions // block_size]
    return np.asarray(block * block_size + plan.positions % block_size, np.int32)


def step_arrays(
    plan: StepPlan,
    attentions: Sequence[Attention],
    cache: CacheShape,
    limits: KernelLimits,
    device: torch.device,
) -> StepArrays:
    """The arrays of a plan of any shape, in new memory."""
    counts = np.diff(plan.query_starts)
    decode = bool((counts == 1).all())
    many = counts > limits.expanded_rows
    parts: list[Int32] = [
        plan.tokens,
        plan_slots(plan, cache.block_size),
        plan.positions,
        plan.query_starts,
        plan.context_lengths,
        plan.block_starts,
        plan.blocks,
        plan.output_rows,
    ]
    shapes = [attention_shape(each, limits.itemsize, decode=decode) for each in attentions]
    for attention, shape in zip(attentions, shapes, strict=True):
        left_out = many if isinstance(attention, LatentAttention) else np.zeros_like(many)
        parts += _tiles(plan.query_starts, shape.rows, left_out)
    contexts = [_context(plan, int(index), cache.block_size) for index in np.flatnonzero(many)]
    buffer = torch.from_numpy(np.concatenate([*parts, *contexts]).astype(np.int32)).to(device)
    views = buffer.split_with_sizes([len(each) for each in (*parts, *contexts)])
    longest = int(plan.context_lengths.max())
    layers: dict[Attention, LayerTiles] = {}
    for at, (attention, shape) in enumerate(zip(attentions, shapes, strict=True)):
        tiles = Tiles(views[8 + 2 * at], views[9 + 2 * at], shape.rows)
        layers[attention] = _layer_tiles(attention, tiles, shape, longest, limits)
    starts = plan.query_starts
    return StepArrays(
        tokens=views[0],
        slots=views[1],
        tables=Tables(views[2], views[3], views[4], views[5], views[6], cache.block_size),
        layers=layers,
        expanded=tuple(
            ExpandedRows(int(starts[index]), int(starts[index + 1]), context)
            for index, context in zip(
                np.flatnonzero(many), views[8 + 2 * len(shapes) :], strict=True
            )
        ),
        output_rows=views[7],
    )


def _layer_tiles(
    attention: Attention, tiles: Tiles, shape: TileShape, longest: int, limits: KernelLimits
) -> LayerTiles:
    kv_heads = 1 if isinstance(attention, LatentAttention) else attention.kv_heads
    head_tiles = kv_heads * -(-attention.heads // kv_heads // shape.heads)
    programs = len(tiles.sequences) * head_tiles
    return LayerTiles(tiles, shape, split_count(programs, longest, limits.processors))


def _tiles(query_starts: Int32, rows: int, left_out: NDArray[np.bool_]) -> tuple[Int32, Int32]:
    """Sequence and first row of each tile of at most `rows` rows."""
    counts = np.where(left_out, 0, -(-np.diff(query_starts) // rows))
    sequences = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    within = np.arange(len(sequences)) - np.repeat(counts.cumsum() - counts, counts)
    return sequences, (query_starts[sequences] + within * rows).astype(np.int32)


def _context(plan: StepPlan, sequence: int, block_size: int) -> Int32:
    blocks = plan.blocks[plan.block_starts[sequence] : plan.block_starts[sequence + 1]]
    slots = (blocks[:, None] * block_size + np.arange(block_size)).reshape(-1)
    return np.asarray(slots[: plan.context_lengths[sequence]], np.int32)


class DecodeArrays:
    """Arrays of a fixed capacity for steps with one row per sequence.

    Args:
        capacity: rows.
        attentions: distinct attentions of the network.
        cache: the paged cache.
        limits: what decides the sizes of a launch.
        device: torch device.

    Attributes:
        capacity: rows.
        arrays: views of the buffer; every replay of a graph reads them.
    """

    def __init__(
        self,
        capacity: int,
        attentions: Sequence[Attention],
        cache: CacheShape,
        limits: KernelLimits,
        device: torch.device,
    ) -> None:
        self.capacity = capacity
        self._cache = cache
        blocks = capacity * -(-cache.positions // cache.block_size)
        # The blocks come last, so that a step copies the used part only.
        sizes = [capacity] * 4 + [capacity + 1] * 2 + [blocks]
        total = sum(sizes)
        pinned = device.type == "cuda"
        self._host = torch.zeros(total, dtype=torch.int32, pin_memory=pinned)
        self._device = torch.zeros(total, dtype=torch.int32, device=device)
        tokens, slots, positions, contexts, rows, block_starts, table = (
            self._device.split_with_sizes(sizes)
        )
        self._parts = [each.numpy() for each in self._host.split_with_sizes(sizes)]
        self._copied = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]
        layers: dict[Attention, LayerTiles] = {}
        for attention in attentions:
            shape = attention_shape(attention, limits.itemsize, decode=True)
            tiles = Tiles(rows[:-1], rows[:-1], shape.rows)
            layers[attention] = _layer_tiles(attention, tiles, shape, cache.positions, limits)
        self.arrays = StepArrays(
            tokens=tokens,
            slots=slots,
            tables=Tables(positions, rows, contexts, block_starts, table, cache.block_size),
            layers=layers,
            expanded=(),
            output_rows=None,
        )
        self._parts[4][:] = np.arange(capacity + 1)
        self.clear()

    def clear(self) -> None:
        """Make all rows empty."""
        self._fill(0)
        self._device.copy_(self._host)

    def write(self, plan: StepPlan) -> None:
        """Copy a plan of at most `capacity` sequences with one row each to the device."""
        if self._copied is not None:
            self._copied.synchronize()  # the last copy may still read the host's buffer
        tokens, slots, positions, contexts, _, block_starts, table = self._parts
        count = len(plan.tokens)
        self._fill(count)
        tokens[:count] = plan.tokens
        slots[:count] = plan_slots(plan, self._cache.block_size)
        positions[:count] = plan.positions
        contexts[:count] = plan.context_lengths
        block_starts[: count + 1] = plan.block_starts
        block_starts[count + 1 :] = plan.block_starts[-1]
        table[: len(plan.blocks)] = plan.blocks
        used = len(self._host) - len(table) + len(plan.blocks)
        self._device[:used].copy_(self._host[:used], non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def _fill(self, count: int) -> None:
        """Rows from `count` on: token 0 at position 0, without a context, in the spare slot."""
        tokens, slots, positions, contexts, _, _, _ = self._parts
        tokens[count:] = positions[count:] = contexts[count:] = 0
        slots[count:] = self._cache.spare_slot
