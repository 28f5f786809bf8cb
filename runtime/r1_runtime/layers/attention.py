"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over a paged cache.

Per token and layer, the cache has only a latent c of `kv_lora_rank` floats and one rotary key that all
heads share. Keys and values are linear in c, which gives two equivalent computations:

* expanded: k = W_uk c, v = W_uv c per head. Used for many queries (prefill, training).
* absorbed: (W_uk c) . q = c . (W_uk^T q): the query is projected into latent space, and the heads
  share one key, so no per-head key is built. Used for one query per sequence (decode).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.config import ModelConfig
from r1_runtime.layers.context import PrefillChunk, StepContext
from r1_runtime.layers.linear import Linear
from r1_runtime.layers.norm import RMSNorm
from r1_runtime.layers.rotary import rotate


class LatentAttention(nn.Module):
    """One layer's attention; parameter names follow the published checkpoints."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        heads, bias = config.num_attention_heads, config.attention_bias
        if config.q_lora_rank is None:
            self.q_proj = Linear(config.hidden_size, heads * config.qk_head_dim, bias=False)
        else:
            self.q_a_proj = Linear(config.hidden_size, config.q_lora_rank, bias=bias)
            # The inner norms use 1e-6 and not rms_norm_eps, as in the reference code.
            self.q_a_layernorm = RMSNorm(config.q_lora_rank)
            self.q_b_proj = Linear(config.q_lora_rank, heads * config.qk_head_dim, bias=False)
        self.kv_a_proj_with_mqa = Linear(config.hidden_size, config.latent_dim, bias=bias)
        self.kv_a_layernorm = RMSNorm(config.kv_lora_rank)
        per_head = config.qk_nope_head_dim + config.v_head_dim
        self.kv_b_proj = Linear(config.kv_lora_rank, heads * per_head, bias=False)
        self.o_proj = Linear(heads * config.v_head_dim, config.hidden_size, bias=bias)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Causal attention within whole sequences, no cache: x [batch, length, hidden]."""
        batch, length, _ = x.shape
        query, latent = self._project(x, cos, sin)
        query = query.transpose(1, 2)
        key, value = self._expand(latent.flatten(0, 1))
        heads = self.config.num_attention_heads
        key = key.view(batch, length, heads, -1).transpose(1, 2)
        value = value.view(batch, length, heads, -1).transpose(1, 2)
        scale = self.config.softmax_scale
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def forward_paged(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepContext
    ) -> Tensor:
        """Attention of one engine step: x [T, hidden], cache [slots, latent_dim]."""
        query, latent = self._project(x, cos, sin)
        cache.index_copy_(0, step.slots, latent)
        parts = []
        if step.decode:
            parts.append(self._decode(query[: step.decode], cache, step))
        parts += [self._prefill(query[c.begin : c.end], cache, c) for c in step.prefill]
        mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.o_proj(mixed)  # type: ignore[no-any-return]

    def _project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [..., heads, qk_head_dim] and latents [..., latent_dim], both rotated."""
        config = self.config
        if config.q_lora_rank is None:
            query = self.q_proj(x)
        else:
            query = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        query = query.unflatten(-1, (config.num_attention_heads, config.qk_head_dim))
        plain, turned = query.split_with_sizes(
            [config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1
        )
        turned = rotate(turned, cos.unsqueeze(-2), sin.unsqueeze(-2), config.rope_interleave)
        latent, shared = self.kv_a_proj_with_mqa(x).split_with_sizes(
            [config.kv_lora_rank, config.qk_rope_head_dim], dim=-1
        )
        shared = rotate(shared, cos, sin, config.rope_interleave)
        latent = torch.cat((self.kv_a_layernorm(latent), shared), dim=-1)
        return torch.cat((plain, turned), dim=-1), latent

    def _expand(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Per-head keys [S, heads, qk_head_dim] and values [S, heads, v] of latents [S, ...]."""
        config = self.config
        heads = config.num_attention_heads
        compressed, shared = latent.split_with_sizes(
            [config.kv_lora_rank, config.qk_rope_head_dim], dim=-1
        )
        plain, value = (
            self.kv_b_proj(compressed)
            .unflatten(-1, (heads, config.qk_nope_head_dim + config.v_head_dim))
            .split_with_sizes([config.qk_nope_head_dim, config.v_head_dim], dim=-1)
        )
        key = torch.cat((plain, shared.unsqueeze(1).expand(-1, heads, -1)), dim=-1)
        return key, value

    def _prefill(self, query: Tensor, cache: Tensor, chunk: PrefillChunk) -> Tensor:
        """Expanded attention of one chunk's queries [n, heads, d] over its whole context."""
        key, value = self._expand(cache[chunk.context])
        new, total = query.shape[0], key.shape[0]
        mask = None
        if new != total:
            # Row i of the chunk is at position total - new + i and attends to all positions up to it.
            mask = torch.ones(new, total, dtype=torch.bool, device=query.device).tril(total - new)
        mixed = F.scaled_dot_product_attention(
            query.transpose(0, 1).unsqueeze(0),
            key.transpose(0, 1).unsqueeze(0),
            value.transpose(0, 1).unsqueeze(0),
            attn_mask=mask,
            is_causal=mask is None,
            scale=self.config.softmax_scale,
        )
        return mixed.squeeze(0).transpose(0, 1).flatten(1)

    def _decode(self, query: Tensor, cache: Tensor, step: StepContext) -> Tensor:
        """Absorbed attention of one query per sequence: query [B, heads, d]."""
        config = self.config
        to_key, to_value = self.kv_b_proj.weight.view(
            config.num_attention_heads, -1, config.kv_lora_rank
        ).split_with_sizes([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        plain, turned = query.split_with_sizes(
            [config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1
        )
        inward = torch.bmm(plain.transpose(0, 1), to_key).transpose(0, 1)
        inward = torch.cat((inward, turned), dim=-1).unsqueeze(1)  # [B, 1, heads, latent_dim]
        assert step.decode_context is not None  # noqa: S101  (set whenever decode > 0)
        key = cache[step.decode_context].unsqueeze(1)  # [B, 1, S, latent_dim]
        # The heads are the query rows of one attention with a single key head. The latent is also
        # the value: one gather serves both, and the rotary part is removed from the result.
        mixed = F.scaled_dot_product_attention(
            inward, key, key, attn_mask=step.decode_mask, scale=config.softmax_scale
        )
        mixed = mixed.squeeze(1)[..., : config.kv_lora_rank].transpose(0, 1)  # [heads, B, latent]
        return torch.bmm(mixed, to_value.transpose(1, 2)).transpose(0, 1).flatten(1)
