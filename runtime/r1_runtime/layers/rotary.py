"""Rotary position embedding (arXiv 2104.09864) with YaRN's frequencies (arXiv 2309.00071).

DeepSeek stores the rotary dimensions as adjacent pairs (x0, x1), (x2, x3), ... (`rope_interleave`);
some converted checkpoints store halves. Query and key are rotated in the same way and only their
product is used, so the order of the result is free: here all first members, then all second ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from r1_runtime.config import ModelConfig, YarnConfig


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each rotated pair, float32 [qk_rope_head_dim / 2]."""
    dim, base = config.qk_rope_head_dim, config.rope_theta
    pairs = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    frequencies = 1.0 / base**pairs
    if config.yarn is None:
        return frequencies
    keep = _extrapolation_share(config.yarn, dim, base)
    return frequencies / config.yarn.factor * (1 - keep) + frequencies * keep


def _extrapolation_share(yarn: YarnConfig, dim: int, base: float) -> Tensor:
    """Share of each pair's original frequency under YaRN: 1 for fast pairs, 0 for slow ones."""

    def pair_of(rotations: float) -> float:
        length = yarn.original_max_position_embeddings
        return dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair_of(yarn.beta_fast), pair_of(yarn.beta_slow)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001  # a ramp of no width would divide by zero
    ramp = (torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)
    return 1 - ramp.clamp(0, 1)


def rotary_table(config: ModelConfig, length: int) -> Tensor:
    """Cosines and sines of positions 0..length-1, float32 [2, length, qk_rope_head_dim / 2]."""
    angles = torch.outer(torch.arange(length, dtype=torch.float32), inverse_frequencies(config))
    scale = config.yarn.cos_sin_scale() if config.yarn else 1.0
    return torch.stack((angles.cos(), angles.sin())) * scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Rotate the pairs of x [..., d] by cos and sin, broadcastable to [..., d / 2], in float32."""
    wide = x.float()
    if interleaved:
        first, second = wide[..., 0::2], wide[..., 1::2]
    else:
        first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
