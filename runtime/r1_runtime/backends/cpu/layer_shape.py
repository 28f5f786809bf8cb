"""From the description of a layer to the structure that the native library reads."""

from __future__ import annotations

from r1_runtime.architecture.description import (
    GroupScore,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    Scoring,
)
from r1_runtime.backends.cpu.library import LayerShape


def layer_shape(layer: Layer) -> LayerShape:
    """The structure of a layer."""
    attention, feed_forward = layer.attention, layer.feed_forward
    shape = LayerShape(
        heads=attention.heads,
        rope_dim=attention.rope.dim,
        interleaved=attention.rope.interleaved,
        softmax_scale=attention.softmax_scale,
        cos_sin_scale=attention.rope.cos_sin_scale,
    )
    if isinstance(attention, LatentAttention):
        shape.latent = 1
        shape.q_lora = attention.q_lora_rank or 0
        shape.kv_lora = attention.kv_lora_rank
        shape.nope = attention.qk_nope_head_dim
        shape.v_dim = attention.v_head_dim
        shape.inner_eps = attention.inner_norm_eps
    else:
        shape.kv_heads = attention.kv_heads
        shape.head_dim = attention.head_dim
        shape.qk_norm = attention.qk_norm
    if isinstance(feed_forward, MixtureOfExperts):
        shape.experts = feed_forward.experts
        shape.experts_per_token = feed_forward.experts_per_token
        shape.expert_inner = feed_forward.inner
        shape.shared_inner = feed_forward.shared_inner
        shape.softmax_scores = feed_forward.scoring is Scoring.SOFTMAX
        shape.normalise = feed_forward.normalise
        shape.groups = feed_forward.groups
        shape.top_groups = feed_forward.top_groups
        shape.group_maximum = feed_forward.group_score is GroupScore.MAXIMUM
        shape.expert_scale = feed_forward.scale
        shape.unit_weights = feed_forward.unit_weights
    else:
        shape.inner = feed_forward.inner
    return shape
