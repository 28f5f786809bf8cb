"""Rotary position embedding: rotation of pairs of dimensions by an angle per position.

Query and key are rotated in the same way and only their product is used, so the order of the result is
free: here all first members of the pairs, then all second ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from r1_runtime.architecture.description import Rope


def cos_sin(rope: Rope, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions [T], float32 [T, dim / 2] each."""
    frequencies = torch.tensor(
        rope.inverse_frequencies, dtype=torch.float32, device=positions.device
    )
    angles = torch.outer(positions.float(), frequencies)
    return angles.cos() * rope.cos_sin_scale, angles.sin() * rope.cos_sin_scale


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Rotate the pairs of x [..., d] by cos and sin, broadcastable to [..., d / 2], in float32."""
    wide = x.float()
    if interleaved:
        first, second = wide[..., 0::2], wide[..., 1::2]
    else:
        first, second = wide.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
