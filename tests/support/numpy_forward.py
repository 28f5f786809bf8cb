"""A forward pass of any `ModelDescription` in numpy float32: one sequence, no cache, no blocking.

Written from the papers and independent of the backends: the oracle for checkpoint readers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    GroupScore,
    LatentAttention,
    MixtureOfExperts,
    Rope,
    Scoring,
)
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Checkpoint

Array = NDArray[np.float32]
Linear = Callable[[Array, str], Array]


class NumpyModel:
    """All weights of a checkpoint in float32."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.description = checkpoint.description
        self._weights = {name: decode(checkpoint.tensor(name)) for name in checkpoint.names()}

    def logits(self, tokens: list[int]) -> Array:
        """Logits after each token, [tokens, vocabulary]."""
        description, weights = self.description, self._weights
        x = weights["embed_tokens.weight"][tokens]
        for index, layer in enumerate(description.layers):
            prefix = f"layers.{index}."

            def linear(x: Array, name: str, prefix: str = prefix) -> Array:
                bias = weights.get(f"{prefix}{name}.bias")
                y = x @ weights[f"{prefix}{name}.weight"].T
                return y if bias is None else y + bias

            def norm(x: Array, name: str, eps: float, prefix: str = prefix) -> Array:
                return _norm(x, weights[f"{prefix}{name}.weight"], eps)

            eps = description.norm_eps
            attention = layer.attention
            normed = norm(x, "input_layernorm", eps)
            if isinstance(attention, GroupedQueryAttention):
                x = x + _grouped_query(attention, normed, linear, norm, eps)
            else:
                x = x + _latent(attention, normed, linear, norm)
            normed = norm(x, "post_attention_layernorm", eps)
            if isinstance(layer.feed_forward, DenseFeedForward):
                x = x + _swiglu(normed, linear, "mlp.")
            else:
                bias = weights.get(prefix + "mlp.gate.e_score_correction_bias")
                x = x + _experts(layer.feed_forward, normed, linear, bias)
        head = weights.get("lm_head.weight", weights["embed_tokens.weight"])
        result: Array = _norm(x, weights["norm.weight"], description.norm_eps) @ head.T
        return result


def _norm(x: Array, weight: Array, eps: float) -> Array:
    result: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * weight
    return result


def _rotate(x: Array, rope: Rope) -> Array:
    """Rotate x [tokens, heads, dim]."""
    frequencies = np.array(rope.inverse_frequencies, np.float32)
    angles = np.arange(len(x), dtype=np.float32)[:, None] * frequencies
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    result = np.empty_like(x)
    half = rope.dim // 2
    first, second = (
        (slice(0, None, 2), slice(1, None, 2))
        if rope.interleaved
        else (slice(0, half), slice(half, None))
    )
    result[..., first] = x[..., first] * cos - x[..., second] * sin
    result[..., second] = x[..., second] * cos + x[..., first] * sin
    return result * np.float32(rope.cos_sin_scale)


def _attend(q: Array, k: Array, v: Array, scale: float) -> Array:
    """Causal attention of [tokens, heads, dim], flattened to [tokens, heads * dim]."""
    scores = np.einsum("thd,shd->hts", q, k) * np.float32(scale)
    scores = np.where(np.tri(len(q), dtype=bool), scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    result: Array = np.einsum("hts,shd->thd", weights, v).reshape(len(q), -1)
    return result


def _grouped_query(
    attention: GroupedQueryAttention,
    x: Array,
    linear: Linear,
    norm: Callable[[Array, str, float], Array],
    eps: float,
) -> Array:
    def heads(name: str, count: int) -> Array:
        return linear(x, f"self_attn.{name}_proj").reshape(len(x), count, attention.head_dim)

    q, k = heads("q", attention.heads), heads("k", attention.kv_heads)
    if attention.qk_norm:
        q, k = norm(q, "self_attn.q_norm", eps), norm(k, "self_attn.k_norm", eps)
    q, k = _rotate(q, attention.rope), _rotate(k, attention.rope)
    group = attention.heads // attention.kv_heads
    k, v = (item.repeat(group, axis=1) for item in (k, heads("v", attention.kv_heads)))
    return linear(_attend(q, k, v, attention.softmax_scale), "self_attn.o_proj")


def _latent(
    attention: LatentAttention,
    x: Array,
    linear: Linear,
    norm: Callable[[Array, str, float], Array],
) -> Array:
    heads, nope, eps = attention.heads, attention.qk_nope_head_dim, attention.inner_norm_eps
    if attention.q_lora_rank is None:
        q = linear(x, "self_attn.q_proj")
    else:
        compressed = norm(linear(x, "self_attn.q_a_proj"), "self_attn.q_a_layernorm", eps)
        q = linear(compressed, "self_attn.q_b_proj")
    q = q.reshape(len(x), heads, attention.qk_head_dim)
    latent = linear(x, "self_attn.kv_a_proj_with_mqa")
    rank = attention.kv_lora_rank
    shared = _rotate(latent[:, None, rank:], attention.rope).repeat(heads, axis=1)
    expanded = linear(
        norm(latent[:, :rank], "self_attn.kv_a_layernorm", eps), "self_attn.kv_b_proj"
    )
    expanded = expanded.reshape(len(x), heads, nope + attention.v_head_dim)
    q = np.concatenate((q[..., :nope], _rotate(q[..., nope:], attention.rope)), axis=-1)
    k = np.concatenate((expanded[..., :nope], shared), axis=-1)
    attended = _attend(q, k, expanded[..., nope:], attention.softmax_scale)
    return linear(attended, "self_attn.o_proj")


def _swiglu(x: Array, linear: Linear, prefix: str) -> Array:
    gate = linear(x, prefix + "gate_proj")
    return linear(gate / (1 + np.exp(-gate)) * linear(x, prefix + "up_proj"), prefix + "down_proj")


def _experts(experts: MixtureOfExperts, x: Array, linear: Linear, bias: Array | None) -> Array:
    logits = linear(x, "mlp.gate")
    if experts.scoring is Scoring.SIGMOID:
        scores = 1 / (1 + np.exp(-logits))
    else:
        scores = np.exp(logits - logits.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
    choice = scores if bias is None else scores + bias
    grouped = choice.reshape(len(x), experts.groups, -1)
    if experts.group_score is GroupScore.TOP2_SUM:
        group_scores = np.sort(grouped, axis=-1)[..., -2:].sum(-1)
    else:
        group_scores = grouped.max(-1)
    result = np.zeros_like(x)
    for row in range(len(x)):
        eligible = np.argsort(-group_scores[row], kind="stable")[: experts.top_groups]
        masked = np.full_like(grouped[row], -np.inf)
        masked[eligible] = grouped[row][eligible]
        chosen = np.argsort(-masked.reshape(-1), kind="stable")[: experts.experts_per_token]
        weights = scores[row][chosen]
        if experts.normalise:
            weights = weights / weights.sum()
        for expert, weight in zip(chosen, weights * np.float32(experts.scale), strict=True):
            result[row] += weight * _swiglu(x[row], linear, f"mlp.experts.{expert}.")
    return result + _swiglu(x, linear, "mlp.shared_experts.") if experts.shared_inner else result
