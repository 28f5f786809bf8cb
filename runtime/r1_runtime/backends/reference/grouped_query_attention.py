"""Grouped-query attention (arXiv 2305.13245) over a paged cache of keys and values."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import GroupedQueryAttention
from r1_runtime.backends.reference.modules import Linear, RMSNorm
from r1_runtime.backends.reference.rotary import rotate
from r1_runtime.backends.reference.step_layout import SequenceRows, StepLayout
from r1_runtime.sparsity.cache_codecs import hadamard, rotates_keys, stored
from r1_runtime.sparsity.reference import attend_rows


class GroupedQueryLayer(nn.Module):
    """One layer's attention; parameter names follow the published checkpoints.

    Attributes:
        cache_width: values per token in the cache: all keys, then all values.
    """

    def __init__(self, attention: GroupedQueryAttention, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.attention = attention
        queries = attention.heads * attention.head_dim
        keys = attention.kv_heads * attention.head_dim
        self.cache_width = 2 * keys
        self.q_proj = Linear(hidden, queries, bias=attention.qkv_bias)
        self.k_proj = Linear(hidden, keys, bias=attention.qkv_bias)
        self.v_proj = Linear(hidden, keys, bias=attention.qkv_bias)
        self.o_proj = Linear(queries, hidden, bias=attention.output_bias)
        if attention.qk_norm:
            self.q_norm = RMSNorm(attention.head_dim, norm_eps)
            self.k_norm = RMSNorm(attention.head_dim, norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal attention within whole sequences, no cache: x [batch, length, hidden]."""
        query, key, value = (part.transpose(1, 2) for part in self._project(x, cos, sin))
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=self.attention.softmax_scale, enable_gqa=True
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def forward_paged(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepLayout
    ) -> Tensor:
        """Attention of one step: x [T, hidden], cache [slots, cache_width]."""
        attention = self.attention
        query, key, value = self._project(x, cos, sin)
        if step.cache_codec is not None:
            if rotates_keys(step.cache_codec):
                query, key = hadamard(query), hadamard(key)
            key, value = stored(step.cache_codec, key), stored(step.cache_codec, value)
        cache[step.slots] = torch.cat((key.flatten(1), value.flatten(1)), dim=-1)
        mixed = torch.empty_like(query)
        for rows in step.sequences:
            context = cache[rows.context].view(-1, 2, attention.kv_heads, attention.head_dim)
            keys, values = context.permute(1, 2, 0, 3)
            if step.sparsity is not None:
                self._attend_sparsely(query, keys, values, rows, step, mixed)
                continue
            mixed[rows.begin : rows.end] = F.scaled_dot_product_attention(
                query[rows.begin : rows.end].transpose(0, 1).unsqueeze(0),
                keys.unsqueeze(0),
                values.unsqueeze(0),
                attn_mask=rows.visible,
                scale=attention.softmax_scale,
                enable_gqa=True,
            )[0].transpose(0, 1)
        return self.o_proj(mixed.flatten(1))  # type: ignore[no-any-return]

    def _attend_sparsely(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        rows: SequenceRows,
        step: StepLayout,
        mixed: Tensor,
    ) -> None:
        """Fill mixed [T, heads, d] of a sequence; keys and values [kv_heads, S, d]."""
        assert step.sparsity is not None  # noqa: S101
        part = slice(rows.begin, rows.end)
        group = self.attention.heads // self.attention.kv_heads
        for head in range(self.attention.kv_heads):
            heads = slice(head * group, (head + 1) * group)
            mixed[part, heads] = attend_rows(
                step.sparsity,
                step.head_mode(head),
                query[part, heads] * self.attention.softmax_scale,
                step.positions[part],
                rows.prompt_length,
                keys[head],
                values[head],
            )

    def _project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query [..., heads, d], key and value [..., kv_heads, d]; query and key rotated."""
        attention = self.attention
        query, key, value = (
            project(x).unflatten(-1, (-1, attention.head_dim))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if attention.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        return self._rotate(query, cos, sin), self._rotate(key, cos, sin), value

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rope = self.attention.rope
        turned, plain = x[..., : rope.dim], x[..., rope.dim :]
        turned = rotate(turned, cos.unsqueeze(-2), sin.unsqueeze(-2), rope.interleaved)
        return torch.cat((turned, plain), dim=-1)
