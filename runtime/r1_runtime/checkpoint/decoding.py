"""Decoding of stored values to float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from r1_runtime.checkpoint.block_decoding import BLOCK_ENCODINGS, decode_blocks
from r1_runtime.checkpoint.source import Encoding, StoredTensor

SCALE_BLOCK = 128  # rows and columns that share one factor of F8_E4M3

Float32 = NDArray[np.float32]


def decode(tensor: StoredTensor) -> Float32:
    """The values in new memory, in the tensor's shape."""
    return _DECODERS[tensor.encoding](tensor).reshape(tensor.shape)


def _from_float32(tensor: StoredTensor) -> Float32:
    return tensor.data.view(np.float32).copy()


def _from_float16(tensor: StoredTensor) -> Float32:
    return tensor.data.view(np.float16).astype(np.float32)


def _from_bfloat16(tensor: StoredTensor) -> Float32:
    """A bfloat16 is the upper half of a float32."""
    bits = np.empty(tensor.data.size // 2, np.uint32)
    np.left_shift(tensor.data.view(np.uint16), np.uint32(16), out=bits)
    return bits.view(np.float32)


def _from_float8(tensor: StoredTensor) -> Float32:
    """Values by table, times the factor of their block of 128 x 128."""
    if tensor.scale is None:
        return FLOAT8_E4M3[tensor.data]
    rows, columns = tensor.shape
    stored = tensor.data.reshape(rows, columns)
    values = np.empty((rows, columns), np.float32)
    for block, factors in enumerate(tensor.scale):
        part = slice(block * SCALE_BLOCK, (block + 1) * SCALE_BLOCK)
        wide = np.repeat(factors, SCALE_BLOCK)[:columns]
        np.multiply(FLOAT8_E4M3[stored[part]], wide, out=values[part])
    return values


def _float8_table() -> Float32:
    """Value of each byte as float8_e4m3fn: bias 7, no infinities, NaN with all bits set."""
    codes = np.arange(128)
    exponents, fractions = codes >> 3, codes & 7
    normal = np.ldexp(1 + fractions / 8, exponents - 7)
    positive = np.where(exponents == 0, np.ldexp(fractions / 8, -6), normal)
    positive[127] = np.nan
    return np.concatenate((positive, -positive)).astype(np.float32)


FLOAT8_E4M3 = _float8_table()

_DECODERS: dict[Encoding, Callable[[StoredTensor], Float32]] = {
    Encoding.F32: _from_float32,
    Encoding.F16: _from_float16,
    Encoding.BF16: _from_bfloat16,
    Encoding.F8_E4M3: _from_float8,
    **dict.fromkeys(BLOCK_ENCODINGS, decode_blocks),
}
