"""Matrices in fewer bits: from stored FP8 blocks, and by rounding to FP8 or INT4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.backends.cuda.kernels.grouped_matmul import (
    FLOAT8_GROUP,
    INT4_GROUP,
    ExpertMatrices,
    Form,
)

_FLOAT8_MAXIMUM = 448.0
_INT4_MAXIMUM = 7.0


def float8_rows(values: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Stored bytes [N, K] and block factors [ceil(N / 128), ceil(K / 128)] as factors per row."""
    return values, blocks.repeat_interleave(FLOAT8_GROUP, dim=0)[: len(values)]


def pack_float8(weights: Tensor) -> ExpertMatrices:
    """Round matrices [E, N, K] to e4m3 with a factor per row and 128 columns."""
    groups, columns = _grouped(weights, FLOAT8_GROUP), weights.shape[2]
    scales = groups.abs().amax(dim=-1) / _FLOAT8_MAXIMUM
    rounded = (groups / _divisor(scales)).to(torch.float8_e4m3fn).view(torch.uint8)
    values = rounded.flatten(-2)[..., :columns].contiguous()
    return ExpertMatrices(Form.FLOAT8, values, scales, columns)


def pack_int4(weights: Tensor) -> ExpertMatrices:
    """Round matrices [E, N, K] to -7 .. 7 with a factor per row and 32 columns."""
    groups, columns = _grouped(weights, INT4_GROUP), weights.shape[2]
    scales = groups.abs().amax(dim=-1) / _INT4_MAXIMUM
    rounded = (groups / _divisor(scales)).round().clamp(-_INT4_MAXIMUM, _INT4_MAXIMUM) + 8
    flat = rounded.to(torch.uint8).flatten(-2)
    low, high = flat[..., 0::2], flat[..., 1::2]
    values = (low | high << 4)[..., : -(-columns // 2)].contiguous()
    return ExpertMatrices(Form.INT4, values, scales, columns)


def _grouped(weights: Tensor, size: int) -> Tensor:
    """[E, N, groups, size] float32, with zeros after the last column."""
    padded = F.pad(weights.float(), (0, -weights.shape[2] % size))
    return padded.view(*padded.shape[:2], -1, size)


def _divisor(scales: Tensor) -> Tensor:
    return scales.masked_fill(scales == 0, 1.0).unsqueeze(-1)
