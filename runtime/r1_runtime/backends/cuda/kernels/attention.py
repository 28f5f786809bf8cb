"""Attention of ragged rows over a paged cache: decode and prefill, grouped-query and latent.

One kernel serves three layouts of keys and values, which differ in views of tensors only:

* grouped-query: a key and a value per token and key-value head.
* latent, absorbed: one key for all heads, the latent and the rotary part; the value is the latent.
* latent, expanded: a key in two parts and a value per head, built for a stretch of the context.

A program computes one tile of (row, head) pairs that share a key-value head, over one part ("split")
of the context. Parts have a log-sum-exp each and are merged by `merge.py`. Context lengths are read on
the device, so a captured graph serves any lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

_LEAST_SPLIT = 256  # positions; shorter parts cost more to merge than they save


@dataclass(frozen=True, slots=True)
class PagedKeys:
    """Views of the keys and values of a layer; the first axis is the slot.

    Attributes:
        key: [slots, kv_heads, k], the part that is not rotated, or the whole key.
        rotary: [slots, kv_heads, r], the rest of the key, or None.
        value: [slots, kv_heads, v]; the same view as `key` in the absorbed form.
    """

    key: Tensor
    rotary: Tensor | None
    value: Tensor

    @property
    def shared_value(self) -> bool:
        """The value is the first part of the key, so a tile is read once."""
        return self.value is self.key


@dataclass(frozen=True, slots=True)
class Tables:
    """Ragged rows and the blocks of their sequences; int32 tensors on the device.

    Attributes:
        positions: [T] position of each row.
        query_starts: [N + 1] first row of each sequence.
        context_lengths: [N] tokens of each sequence; 0 for a row that only fills a batch.
        block_starts: [N + 1] first entry of each sequence in `blocks`.
        blocks: cache blocks of each sequence, by position.
        block_size: tokens per block.
    """

    positions: Tensor
    query_starts: Tensor
    context_lengths: Tensor
    block_starts: Tensor
    blocks: Tensor
    block_size: int


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of at most `rows` adjacent rows of one sequence.

    Attributes:
        sequences: [tiles] int32.
        first_rows: [tiles] int32.
        rows: rows per tile.
    """

    sequences: Tensor
    first_rows: Tensor
    rows: int


@dataclass(frozen=True, slots=True)
class TileShape:
    """(row, head) pairs and positions of a tile, and the heads of one row in it."""

    pairs: int
    heads: int
    positions: int

    @property
    def rows(self) -> int:
        return self.pairs // self.heads


def tile_shape(heads: int, kv_heads: int, width: int, itemsize: int, *, decode: bool) -> TileShape:
    """The tile for keys of `width` values of `itemsize` bytes.

    A tile of queries and two tiles of keys must fit into 227 KiB of shared memory of a Hopper SM.
    """
    group = heads // kv_heads
    wide = triton.next_power_of_2(width) * itemsize > 640
    most = 16 if itemsize > 2 and wide else 64
    wanted = int(triton.next_power_of_2(group)) if decode else most
    pairs = min(most, max(16, wanted))
    positions = 16 if itemsize > 2 and wide else 32 if wide else 64
    return TileShape(pairs, min(pairs, group), positions)


def split_count(tiles: int, longest: int, processors: int) -> int:
    """Parts of the context, so that about two programs per processor run.

    Args:
        tiles: programs without a split.
        longest: tokens of the longest context that the launch may see.
        processors: multiprocessors of the device.
    """
    wanted = -(-2 * processors // max(1, tiles))
    return max(1, min(wanted, -(-longest // _LEAST_SPLIT), 64))


@triton.jit
def _attention_kernel(
    query, query_row, query_head,
    key, key_slot, key_head,
    rotary, rotary_slot, rotary_head,
    value, value_slot, value_head,
    out, out_split, out_row, out_head,
    lse, lse_split, lse_row,
    tile_sequences, tile_rows, positions, query_starts, context_lengths, block_starts, blocks,
    scale, group, splits,
    BLOCK: tl.constexpr,
    KEY: tl.constexpr,
    KEY_PAD: tl.constexpr,
    ROTARY: tl.constexpr,
    ROTARY_PAD: tl.constexpr,
    VALUE: tl.constexpr,
    VALUE_PAD: tl.constexpr,
    SHARED: tl.constexpr,
    PAIRS: tl.constexpr,
    HEADS: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIONS: tl.constexpr,
    LEAST: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    tile, head_tile, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    sequence = tl.load(tile_sequences + tile)
    head_tiles = tl.cdiv(group, HEADS)
    kv_head = head_tile // head_tiles
    pair = tl.arange(0, PAIRS)
    row = tl.load(tile_rows + tile) + pair // HEADS
    in_group = head_tile % head_tiles * HEADS + pair % HEADS
    head = kv_head * group + in_group
    live = (pair < ROWS * HEADS) & (row < tl.load(query_starts + sequence + 1)) & (in_group < group)
    position = tl.load(positions + row, mask=live, other=-1)

    end = tl.minimum(tl.load(context_lengths + sequence), tl.max(position, 0) + 1)
    length = tl.maximum(tl.cdiv(tl.cdiv(end, splits), POSITIONS) * POSITIONS, LEAST)
    begin = split * length
    stop = tl.minimum(begin + length, end)

    k_dim, v_dim = tl.arange(0, KEY_PAD), tl.arange(0, VALUE_PAD)
    row_wide, head_wide = row.to(tl.int64), head.to(tl.int64)
    from_query = query + (row_wide * query_row + head_wide * query_head)[:, None]
    q = tl.load(from_query + k_dim[None, :], mask=live[:, None] & (k_dim < KEY)[None, :], other=0.0)
    if ROTARY > 0:
        r_dim = tl.arange(0, ROTARY_PAD)
        q_mask = live[:, None] & (r_dim < ROTARY)[None, :]
        q_rotary = tl.load(from_query + KEY + r_dim[None, :], mask=q_mask, other=0.0)
    highest = tl.full((PAIRS,), float("-inf"), tl.float32)
    total = tl.zeros((PAIRS,), tl.float32)
    mixed = tl.zeros((PAIRS, VALUE_PAD), tl.float32)
    table = blocks + tl.load(block_starts + sequence)
    for start in range(begin, stop, POSITIONS):
        at = start + tl.arange(0, POSITIONS)
        inside = at < stop
        block = tl.load(table + at // BLOCK, mask=inside, other=0)
        slot = block.to(tl.int64) * BLOCK + at % BLOCK
        # A slot outside of the context may have any bits, so it is not read.
        k_mask = inside[:, None] & (k_dim < KEY)[None, :]
        from_key = key + (slot * key_slot + kv_head * key_head)[:, None]
        k = tl.load(from_key + k_dim[None, :], mask=k_mask, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if ROTARY > 0:
            r_mask = inside[:, None] & (r_dim < ROTARY)[None, :]
            from_rotary = rotary + (slot * rotary_slot + kv_head * rotary_head)[:, None]
            k_rotary = tl.load(from_rotary + r_dim[None, :], mask=r_mask, other=0.0)
            scores += tl.dot(q_rotary, tl.trans(k_rotary), input_precision=PRECISION)
        visible = inside[None, :] & (at[None, :] <= position[:, None])
        scores = tl.where(visible, scores * scale, float("-inf"))
        raised = tl.maximum(highest, tl.max(scores, 1))
        finite = tl.where(raised == float("-inf"), 0.0, raised)
        shares = tl.exp(scores - finite[:, None])
        kept = tl.exp(highest - finite)
        total = total * kept + tl.sum(shares, 1)
        if SHARED:
            v = k
        else:
            v_mask = inside[:, None] & (v_dim < VALUE)[None, :]
            from_value = value + (slot * value_slot + kv_head * value_head)[:, None]
            v = tl.load(from_value + v_dim[None, :], mask=v_mask, other=0.0)
        mixed = mixed * kept[:, None]
        mixed += tl.dot(shares.to(v.dtype), v, input_precision=PRECISION)
        highest = raised
    divisor = tl.where(total == 0.0, 1.0, total)
    to_out = out + (split * out_split + row_wide * out_row + head_wide * out_head)[:, None]
    result = (mixed / divisor[:, None]).to(out.dtype.element_ty)
    tl.store(to_out + v_dim[None, :], result, mask=live[:, None] & (v_dim < VALUE)[None, :])
    # A row without a visible position has total 0 and the value -inf.
    tl.store(
        lse + split * lse_split + row_wide * lse_row + head, highest + tl.log(divisor), mask=live
    )


def paged_attention(
    query: Tensor,
    keys: PagedKeys,
    tables: Tables,
    tiles: Tiles,
    scale: float,
    *,
    splits: int,
    shape: TileShape,
) -> tuple[Tensor, Tensor]:
    """Causal attention of the rows of `tiles`; other rows of the results are not written.

    Args:
        query: [T, heads, k + r].
        keys: the layer's cache.
        tables: rows and blocks.
        tiles: tiles of `shape.rows` rows at most.
        scale: factor on the scores.
        splits: parts of the context.
        shape: sizes of a tile.

    Returns:
        Parts [splits, T, heads, v], float32 or with one part the query's type, and their
        log-sum-exp [splits, T, heads], float32; -inf where a part has no position for a row.
    """
    rows, heads, _ = query.shape
    kv_heads, width = keys.key.shape[1:]
    value_width = keys.value.shape[2]
    group = heads // kv_heads
    rotary = keys.key if keys.rotary is None else keys.rotary
    rotary_width = 0 if keys.rotary is None else keys.rotary.shape[2]
    out = torch.empty(
        (splits, rows, heads, value_width),
        dtype=query.dtype if splits == 1 else torch.float32,
        device=query.device,
    )
    lse = torch.empty((splits, rows, heads), dtype=torch.float32, device=query.device)
    grid = (len(tiles.sequences), kv_heads * -(-group // shape.heads), splits)
    if grid[0] == 0:
        return out, lse
    _attention_kernel[grid](
        query, query.stride(0), query.stride(1),
        keys.key, keys.key.stride(0), keys.key.stride(1),
        rotary, rotary.stride(0), rotary.stride(1),
        keys.value, keys.value.stride(0), keys.value.stride(1),
        out, out.stride(0), out.stride(1), out.stride(2),
        lse, lse.stride(0), lse.stride(1),
        tiles.sequences, tiles.first_rows, tables.positions, tables.query_starts,
        tables.context_lengths, tables.block_starts, tables.blocks,
        scale, group, splits,
        BLOCK=tables.block_size,
        KEY=width,
        KEY_PAD=_padded(width),
        ROTARY=rotary_width,
        ROTARY_PAD=_padded(rotary_width),
        VALUE=value_width,
        VALUE_PAD=_padded(value_width),
        SHARED=keys.shared_value,
        PAIRS=shape.pairs,
        HEADS=shape.heads,
        ROWS=tiles.rows,
        POSITIONS=shape.positions,
        LEAST=_LEAST_SPLIT,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=4 if value_width <= 256 else 8,
        num_stages=2,
    )  # fmt: skip
    return out, lse


def _padded(width: int) -> int:
    """The least power of two that the matrix units take."""
    return max(16, int(triton.next_power_of_2(width)))


def paged_attention_reference(
    query: Tensor, keys: PagedKeys, tables: Tables, scale: float
) -> tuple[Tensor, Tensor]:
    """The same without parts: [T, heads, v] and log-sum-exp [T, heads], in float32."""
    heads, kv_heads = query.shape[1], keys.key.shape[1]
    out = query.new_zeros((*query.shape[:2], keys.value.shape[2]), dtype=torch.float32)
    lse = query.new_full(query.shape[:2], float("-inf"), dtype=torch.float32)
    starts, block_starts = tables.query_starts.tolist(), tables.block_starts.tolist()
    for index, length in enumerate(tables.context_lengths.tolist()):
        begin, end = starts[index : index + 2]
        if length == 0 or begin == end:
            continue
        blocks = tables.blocks[block_starts[index] : block_starts[index + 1]].long()
        within = torch.arange(tables.block_size, device=blocks.device)
        slots = (blocks[:, None] * tables.block_size + within).flatten()[:length]
        key = keys.key[slots]
        if keys.rotary is not None:
            key = torch.cat((key, keys.rotary[slots]), dim=-1)
        key, value = (
            each.float().repeat_interleave(heads // kv_heads, dim=1)
            for each in (key, keys.value[slots])
        )
        scores = torch.einsum("nhd,shd->nhs", query[begin:end].float(), key) * scale
        at = torch.arange(length, device=blocks.device)
        hidden = at > tables.positions[begin:end, None]
        scores = scores.masked_fill(hidden[:, None], float("-inf"))
        lse[begin:end] = scores.logsumexp(dim=-1)
        shares = (scores - lse[begin:end, :, None]).exp().nan_to_num(0.0)
        out[begin:end] = torch.einsum("nhs,shv->nhv", shares, value)
    return out, lse
