"""Sizes of the stored forms of values: how many values a block holds, and in how many bytes."""

from __future__ import annotations

import math
from typing import NamedTuple

from r1_runtime.checkpoint.source import Encoding


class BlockFormat(NamedTuple):
    """A block is `values` neighbours of one row in `bytes` bytes."""

    values: int
    bytes: int


_KINDS = {
    Encoding.F32: (1, 4),
    Encoding.F16: (1, 2),
    Encoding.BF16: (1, 2),
    Encoding.F8_E4M3: (1, 1),
    Encoding.Q8_0: (32, 34),
    Encoding.Q4_0: (32, 18),
    Encoding.Q4_1: (32, 20),
    Encoding.Q5_0: (32, 22),
    Encoding.Q5_1: (32, 24),
    Encoding.Q2_K: (256, 84),
    Encoding.Q3_K: (256, 110),
    Encoding.Q4_K: (256, 144),
    Encoding.Q5_K: (256, 176),
    Encoding.Q6_K: (256, 210),
}
BLOCK_FORMATS = {encoding: BlockFormat(*sizes) for encoding, sizes in _KINDS.items()}


def stored_bytes(shape: tuple[int, ...], encoding: Encoding) -> int:
    """Bytes of a tensor of `shape`, whose last dimension is a whole number of blocks.

    Raises:
        ValueError: it is not.
    """
    block = BLOCK_FORMATS[encoding]
    if shape and shape[-1] % block.values:
        raise ValueError(
            f"rows of {shape[-1]} values do not divide into {encoding} blocks of {block.values}"
        )
    return math.prod(shape) // block.values * block.bytes
