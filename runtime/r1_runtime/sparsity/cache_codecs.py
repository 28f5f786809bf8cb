"""Caches of 8 and 4 bits in torch: what a row is after it was stored and read. `cache_codec.h` is the twin.

A row (one token's key, value or latent) is groups of 64 values, each with its own float16 scale. The last
group is padded with zeros to a multiple of 16. The rotary part of a latent is bfloat16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP, _PADDING = 64, 16
CODECS = ("int8", "int4", "fp8")


def rotates_keys(codec: str) -> bool:
    """Whether keys and queries are rotated by `hadamard`, which spreads the largest channels."""
    return codec == "int4"


def hadamard(x: Tensor) -> Tensor:
    """x [..., n] times an orthonormal Hadamard matrix, in blocks of the largest power of two in n."""
    n = x.shape[-1]
    block = n & -n
    matrix = torch.ones(1, 1, dtype=x.dtype, device=x.device)
    while len(matrix) < block:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    blocks = x.reshape(*x.shape[:-1], n // block, block)
    turned: Tensor = blocks @ (matrix / block**0.5)
    return turned.flatten(-2)


def stored(codec: str, rows: Tensor) -> Tensor:
    """What reading gives after rows [..., n] were stored by a codec of `CODECS`."""
    n = rows.shape[-1]
    padded = F.pad(rows.float(), (0, -n % _PADDING))
    starts = range(0, padded.shape[-1], GROUP)
    groups = [_ROUND_TRIPS[codec](padded[..., at : at + GROUP]) for at in starts]
    return torch.cat(groups, dim=-1)[..., :n].to(rows.dtype)


def stored_latent(codec: str, rows: Tensor, rank: int) -> Tensor:
    """The same of latents [..., rank] with their rotary keys behind."""
    rotary = rows[..., rank:].bfloat16().to(rows.dtype)
    return torch.cat([stored(codec, rows[..., :rank]), rotary], dim=-1)


def _half(x: Tensor) -> Tensor:
    return x.clamp(-65504, 65504).half().float()


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, 1 / scale, 0)


def _int8(group: Tensor) -> Tensor:
    scale = _half(group.abs().amax(-1, keepdim=True) / 127)
    return (group * _inverse(scale)).round().clamp(-127, 127) * scale


def _fp8(group: Tensor) -> Tensor:
    scale = _half(group.abs().amax(-1, keepdim=True) / 448)
    codes = (group * _inverse(scale)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return codes.float() * scale


def _int4(group: Tensor) -> Tensor:
    minimum = _half(group.amin(-1, keepdim=True))
    scale = _half((group.amax(-1, keepdim=True) - minimum) / 15)
    codes = ((group - minimum) * _inverse(scale)).round().clamp(0, 15)
    return codes * scale + minimum


_ROUND_TRIPS = {"int8": _int8, "int4": _int4, "fp8": _fp8}
