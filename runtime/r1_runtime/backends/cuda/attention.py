"""Attention layers over the paged cache: grouped-query and latent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.architecture.description import GroupedQueryAttention, LatentAttention
from r1_runtime.backends.cuda.kernels.attention import (
    PagedKeys,
    Tables,
    Tiles,
    paged_attention,
    tile_shape,
)
from r1_runtime.backends.cuda.kernels.merge import merge_parts
from r1_runtime.backends.cuda.matrices import Linear
from r1_runtime.backends.cuda.step_arrays import ExpandedRows, LayerTiles, StepArrays
from r1_runtime.backends.reference.rotary import rotate

_EXPANDED_POSITIONS = (
    2048  # keys and values of one stretch: 128 MiB for 128 heads of 256 in bfloat16
)


@dataclass(frozen=True, slots=True)
class Norm:
    """RMS norm over the last dimension."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def _paged(
    query: Tensor, keys: PagedKeys, step: StepArrays, layer: LayerTiles, scale: float
) -> Tensor:
    parts, lse = paged_attention(
        query, keys, step.tables, layer.tiles, scale, splits=layer.splits, shape=layer.shape
    )
    return merge_parts(parts, lse, query.dtype)


@dataclass(frozen=True, slots=True)
class GroupedQueryLayer:
    """Grouped-query attention; a cache row has all keys, then all values."""

    attention: GroupedQueryAttention
    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    o_proj: Linear
    q_norm: Norm | None
    k_norm: Norm | None

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepArrays
    ) -> Tensor:
        """Attention of one step: x [T, hidden], cache [slots, 2 * kv_heads * head_dim]."""
        attention = self.attention
        query, key, value = (
            project(x).view(len(x), -1, attention.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query = self._turned(query, self.q_norm, cos, sin)
        key = self._turned(key, self.k_norm, cos, sin)
        cache[step.slots.long()] = torch.cat((key.flatten(1), value.flatten(1)), dim=-1)
        stored = cache.view(-1, 2, attention.kv_heads, attention.head_dim)
        keys = PagedKeys(stored[:, 0], None, stored[:, 1])
        layer = step.layers[attention]
        mixed = _paged(query, keys, step, layer, attention.softmax_scale)
        return self.o_proj(mixed.flatten(1))

    def _turned(self, x: Tensor, norm: Norm | None, cos: Tensor, sin: Tensor) -> Tensor:
        rope = self.attention.rope
        x = x if norm is None else norm(x)
        turned = rotate(x[..., : rope.dim], cos.unsqueeze(-2), sin.unsqueeze(-2), rope.interleaved)
        return torch.cat((turned, x[..., rope.dim :]), dim=-1)


@dataclass(frozen=True, slots=True)
class LatentLayer:
    """Latent attention; a cache row has the latent, then the rotary key that all heads share.

    Attributes:
        query: from x [T, hidden] to [T, heads * qk_head_dim]: one matrix, or two with a norm.
        to_key: [heads, qk_nope_head_dim, kv_lora_rank], the first part of kv_b_proj.
        to_value: [heads, v_head_dim, kv_lora_rank], the second part.
    """

    attention: LatentAttention
    query: tuple[Linear, Norm, Linear] | tuple[Linear]
    kv_a_proj: Linear
    kv_a_norm: Norm
    to_key: Tensor
    to_value: Tensor
    o_proj: Linear

    def __call__(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepArrays
    ) -> Tensor:
        """Attention of one step: x [T, hidden], cache [slots, latent_dim]."""
        attention = self.attention
        plain, turned = self._queries(x, cos, sin)
        latent, shared = self._split(self.kv_a_proj(x), attention.kv_lora_rank)
        shared = rotate(shared, cos, sin, attention.rope.interleaved)
        cache[step.slots.long()] = torch.cat((self.kv_a_norm(latent), shared), dim=-1)
        layer = step.layers[attention]
        if not step.expanded:
            mixed = self._absorbed(plain, turned, cache, step, layer)
        else:
            mixed = plain.new_empty(len(x), attention.heads, attention.v_head_dim)
            if len(layer.tiles.sequences):
                mixed.copy_(self._absorbed(plain, turned, cache, step, layer))
            for rows in step.expanded:
                span = slice(rows.begin, rows.end)
                query = torch.cat((plain[span], turned[span]), dim=-1)
                mixed[span] = self._expanded(query, cache, step, rows)
        return self.o_proj(mixed.flatten(1))

    def _queries(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Both parts of the queries: [T, heads, nope] and the rotated [T, heads, rope]."""
        attention = self.attention
        for apply in self.query:
            x = apply(x)
        x = x.view(len(x), attention.heads, attention.qk_head_dim)
        plain, turned = self._split(x, attention.qk_nope_head_dim)
        interleaved = attention.rope.interleaved
        return plain, rotate(turned, cos.unsqueeze(-2), sin.unsqueeze(-2), interleaved)

    def _split(self, x: Tensor, plain: int) -> tuple[Tensor, Tensor]:
        first, second = x.split_with_sizes([plain, self.attention.rope.dim], dim=-1)
        return first, second

    def _absorbed(
        self, plain: Tensor, turned: Tensor, cache: Tensor, step: StepArrays, layer: LayerTiles
    ) -> Tensor:
        """Queries in latent space over one key for all heads: [T, heads, v]."""
        attention = self.attention
        inward = torch.bmm(plain.transpose(0, 1), self.to_key).transpose(0, 1)
        query = torch.cat((inward, turned), dim=-1)
        stored = cache.unsqueeze(1)
        key, shared = self._split(stored, attention.kv_lora_rank)
        keys = PagedKeys(key, shared, key)
        mixed = _paged(query, keys, step, layer, attention.softmax_scale)
        outward = torch.bmm(mixed.transpose(0, 1), self.to_value.transpose(1, 2))
        return outward.transpose(0, 1)

    def _expanded(
        self, query: Tensor, cache: Tensor, step: StepArrays, rows: ExpandedRows
    ) -> Tensor:
        """Queries [n, heads, d] of one sequence over keys and values of all heads: [n, heads, v].

        Keys and values are built for one stretch of the context at a time, and merged.
        """
        attention = self.attention
        shape = tile_shape(
            attention.heads,
            attention.heads,
            attention.qk_head_dim,
            query.element_size(),
            decode=False,
        )
        count, device = len(query), query.device
        first = torch.arange(0, count, shape.rows, dtype=torch.int32, device=device)
        tiles = Tiles(torch.zeros_like(first), first, shape.rows)
        parts, sums = [], []
        for begin in range(0, len(rows.context), _EXPANDED_POSITIONS):
            slots = rows.context[begin : begin + _EXPANDED_POSITIONS]
            latent, shared = self._split(cache[slots.long()], attention.kv_lora_rank)
            key, value = (
                torch.einsum("sc,hdc->shd", latent, matrix)
                for matrix in (self.to_key, self.to_value)
            )
            turned = shared.unsqueeze(1).expand(-1, attention.heads, -1)
            tables = _stretch(step.tables, rows, begin, len(slots))
            part, lse = paged_attention(
                query,
                PagedKeys(key, turned, value),
                tables,
                tiles,
                attention.softmax_scale,
                splits=1,
                shape=shape,
            )
            parts.append(part)
            sums.append(lse)
        return merge_parts(torch.cat(parts), torch.cat(sums), query.dtype)


def _stretch(tables: Tables, rows: ExpandedRows, begin: int, count: int) -> Tables:
    """One sequence whose positions `begin` .. `begin + count` lie in a cache of their own."""
    positions = tables.positions[rows.begin : rows.end] - begin
    pair = torch.arange(2, dtype=torch.int32, device=positions.device)
    blocks = torch.arange(
        -(-count // tables.block_size), dtype=torch.int32, device=positions.device
    )
    return replace(
        tables,
        positions=positions,
        query_starts=pair * (rows.end - rows.begin),
        context_lengths=pair[1:] * count,
        block_starts=pair * len(blocks),
        blocks=blocks,
    )
