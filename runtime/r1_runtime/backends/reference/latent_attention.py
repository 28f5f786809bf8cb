"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over a paged cache.

Per token and layer, the cache has only a latent c of `kv_lora_rank` floats and one rotary key that all
heads share. Keys and values are linear in c, which gives two equivalent computations:

* expanded: k = W_uk c, v = W_uv c per head. Used for several rows of a sequence, and in training.
* absorbed: (W_uk c) . q = c . (W_uk^T q): the query is projected into latent space, and the heads
  share one key, so no per-head key is built. Used for one row of a sequence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import LatentAttention
from r1_runtime.backends.reference.modules import Linear, RMSNorm
from r1_runtime.backends.reference.rotary import rotate
from r1_runtime.backends.reference.step_layout import SequenceRows, StepLayout
from r1_runtime.sparsity.cache_codecs import stored_latent
from r1_runtime.sparsity.reference import attend_rows

_HEADS_PER_SELECTION = 48  # more heads choose in groups, as the native step does


class LatentLayer(nn.Module):
    """One layer's attention; parameter names follow the published checkpoints.

    Attributes:
        cache_width: values per token in the cache: the latent, then the shared rotary key.
    """

    def __init__(self, attention: LatentAttention, hidden: int) -> None:
        super().__init__()
        self.attention = attention
        self.cache_width = attention.latent_dim
        queries, bias = attention.heads * attention.qk_head_dim, attention.bias
        if attention.q_lora_rank is None:
            self.q_proj = Linear(hidden, queries)
        else:
            self.q_a_proj = Linear(hidden, attention.q_lora_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(attention.q_lora_rank, attention.inner_norm_eps)
            self.q_b_proj = Linear(attention.q_lora_rank, queries)
        self.kv_a_proj_with_mqa = Linear(hidden, attention.latent_dim, bias=bias)
        self.kv_a_layernorm = RMSNorm(attention.kv_lora_rank, attention.inner_norm_eps)
        per_head = attention.qk_nope_head_dim + attention.v_head_dim
        self.kv_b_proj = Linear(attention.kv_lora_rank, attention.heads * per_head)
        self.o_proj = Linear(attention.heads * attention.v_head_dim, hidden, bias=bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal attention within whole sequences, no cache: x [batch, length, hidden]."""
        query, latent = self._project(x, cos, sin)
        key, value = self._expand(latent)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            is_causal=True,
            scale=self.attention.softmax_scale,
        )
        return self.o_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def forward_paged(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepLayout
    ) -> Tensor:
        """Attention of one step: x [T, hidden], cache [slots, cache_width]."""
        query, latent = self._project(x, cos, sin)
        if step.cache_codec is not None:
            latent = stored_latent(step.cache_codec, latent, self.attention.kv_lora_rank)
        cache[step.slots] = latent
        mixed = query.new_empty(len(x), self.attention.heads * self.attention.v_head_dim)
        for rows in step.sequences:
            if step.sparsity is not None:
                mixed[rows.begin : rows.end] = self._sparse(query, cache, rows, step)
                continue
            attend = self._absorbed if rows.end - rows.begin == 1 else self._expanded
            mixed[rows.begin : rows.end] = attend(query[rows.begin : rows.end], cache, rows)
        return self.o_proj(mixed)  # type: ignore[no-any-return]

    def _project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [..., heads, qk_head_dim] and latents [..., latent_dim], both rotated."""
        attention = self.attention
        if attention.q_lora_rank is None:
            query = self.q_proj(x)
        else:
            query = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        query = query.unflatten(-1, (attention.heads, attention.qk_head_dim))
        interleaved = attention.rope.interleaved
        plain, turned = self._without_rotary(query, attention.qk_nope_head_dim)
        turned = rotate(turned, cos.unsqueeze(-2), sin.unsqueeze(-2), interleaved)
        latent, shared = self._without_rotary(self.kv_a_proj_with_mqa(x), attention.kv_lora_rank)
        shared = rotate(shared, cos, sin, interleaved)
        latent = torch.cat((self.kv_a_layernorm(latent), shared), dim=-1)
        return torch.cat((plain, turned), dim=-1), latent

    def _without_rotary(self, x: Tensor, plain: int) -> tuple[Tensor, Tensor]:
        first, second = x.split_with_sizes([plain, self.attention.rope.dim], dim=-1)
        return first, second

    def _expand(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Per-head keys [..., heads, qk_head_dim] and values [..., heads, v] of latents [..., n]."""
        attention = self.attention
        compressed, shared = self._without_rotary(latent, attention.kv_lora_rank)
        both = self.kv_b_proj(compressed).unflatten(-1, (attention.heads, -1))
        plain, value = both.split_with_sizes(
            [attention.qk_nope_head_dim, attention.v_head_dim], dim=-1
        )
        shared = shared.unsqueeze(-2).expand(*plain.shape[:-1], -1)
        return torch.cat((plain, shared), dim=-1), value

    def _expanded(self, query: Tensor, cache: Tensor, rows: SequenceRows) -> Tensor:
        """Queries [n, heads, d] over the keys of all heads: [n, heads * v]."""
        key, value = self._expand(cache[rows.context])
        mixed = F.scaled_dot_product_attention(
            query.transpose(0, 1).unsqueeze(0),
            key.transpose(0, 1).unsqueeze(0),
            value.transpose(0, 1).unsqueeze(0),
            attn_mask=rows.visible,
            scale=self.attention.softmax_scale,
        )
        return mixed[0].transpose(0, 1).flatten(1)

    def _absorbed(self, query: Tensor, cache: Tensor, rows: SequenceRows) -> Tensor:
        """Queries [n, heads, d] in latent space, over one key for all heads: [n, heads * v]."""
        attention = self.attention
        inward, to_value = self._inward(query)
        key = cache[rows.context]
        scores = torch.einsum("nhc,sc->nhs", inward, key).float() * attention.softmax_scale
        scores = scores.masked_fill(~rows.visible.unsqueeze(1), float("-inf"))
        shares = scores.softmax(dim=-1).to(key.dtype)
        mixed = torch.einsum("nhs,sc->nhc", shares, key[:, : attention.kv_lora_rank])
        return torch.einsum("nhc,hvc->nhv", mixed, to_value).flatten(1)

    def _sparse(self, query: Tensor, cache: Tensor, rows: SequenceRows, step: StepLayout) -> Tensor:
        """The rows of a sequence in latent space by the step's policy: [n, heads * v]."""
        assert step.sparsity is not None  # noqa: S101
        part = slice(rows.begin, rows.end)
        inward, to_value = self._inward(query[part])
        key = cache[rows.context]
        mixed = [
            attend_rows(
                step.sparsity,
                step.head_mode(0),
                inward[:, at : at + _HEADS_PER_SELECTION] * self.attention.softmax_scale,
                step.positions[part],
                rows.prompt_length,
                key,
                key[:, : self.attention.kv_lora_rank],
                min(self.attention.heads, _HEADS_PER_SELECTION),
            )
            for at in range(0, self.attention.heads, _HEADS_PER_SELECTION)
        ]
        return torch.einsum("nhc,hvc->nhv", torch.cat(mixed, dim=1), to_value).flatten(1)

    def _inward(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [n, heads, d] in latent space [n, heads, latent_dim], and W_uv [heads, v, rank]."""
        attention = self.attention
        weight = self.kv_b_proj.weight.view(attention.heads, -1, attention.kv_lora_rank)
        to_key, to_value = weight.split_with_sizes(
            [attention.qk_nope_head_dim, attention.v_head_dim], dim=1
        )
        plain, turned = self._without_rotary(query, attention.qk_nope_head_dim)
        inward = torch.einsum("nhd,hdc->nhc", plain, to_key)
        return torch.cat((inward, turned), dim=-1), to_value
