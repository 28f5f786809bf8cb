"""Random tensors in every stored encoding, with values of a chosen spread."""

from __future__ import annotations

import numpy as np

from r1_runtime.checkpoint.block_formats import BLOCK_FORMATS
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Encoding, StoredTensor

# Byte offset of each float16 factor in a block, and its size relative to the first, by which values
# have a mean of about zero. All other bytes of a block may have any value.
_FACTORS: dict[Encoding, tuple[tuple[int, float], ...]] = {
    Encoding.Q8_0: ((0, 1),),
    Encoding.Q4_0: ((0, 1),),
    Encoding.Q4_1: ((0, 1), (2, -7.5)),
    Encoding.Q5_0: ((0, 1),),
    Encoding.Q5_1: ((0, 1), (2, -15.5)),
    Encoding.Q2_K: ((80, 1), (82, 1.5)),
    Encoding.Q3_K: ((108, 1),),
    Encoding.Q4_K: ((0, 1), (2, 7.5)),
    Encoding.Q5_K: ((0, 1), (2, 15.5)),
    Encoding.Q6_K: ((208, 1),),
}


def random_tensor(
    name: str, shape: tuple[int, int], encoding: Encoding, random: np.random.Generator
) -> StoredTensor:
    """A matrix whose values have the standard deviation columns ** -0.5."""
    rows, columns = shape
    spread = columns**-0.5
    if encoding in _FACTORS:
        unit = _blocks(name, shape, encoding, random, 1.0)
        factor = spread / float(decode(unit).std())
        scaled = unit.data.reshape(-1, BLOCK_FORMATS[encoding].bytes).copy()
        _set_factors(scaled, encoding, factor)
        return StoredTensor(name, shape, encoding, scaled.reshape(-1))
    values = random.standard_normal(shape, np.float32) * np.float32(spread)
    if encoding is Encoding.F8_E4M3:
        bytes_ = random.integers(0, 0x7F, shape, dtype=np.uint8)
        bytes_ |= random.integers(0, 2, shape, dtype=np.uint8) << 7
        tiles = (-(-rows // 128), -(-columns // 128))
        scale = np.exp2(random.uniform(-1, 1, tiles)).astype(np.float32)
        unit = StoredTensor(name, shape, encoding, bytes_.reshape(-1), scale)
        factor = spread / float(decode(unit).std())
        scale *= np.float32(factor)
        return unit
    if encoding is Encoding.F16:
        data = values.astype(np.float16).view(np.uint8)
    elif encoding is Encoding.BF16:
        data = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    else:
        data = values.view(np.uint8)
    return StoredTensor(name, shape, encoding, data.reshape(-1))


def _blocks(
    name: str,
    shape: tuple[int, int],
    encoding: Encoding,
    random: np.random.Generator,
    factor: float,
) -> StoredTensor:
    block = BLOCK_FORMATS[encoding]
    count = shape[0] * shape[1] // block.values
    data = random.integers(0, 256, (count, block.bytes), dtype=np.uint8)
    _set_factors(data, encoding, factor)
    return StoredTensor(name, shape, encoding, data.reshape(-1))


def _set_factors(
    blocks: np.ndarray[tuple[int, int], np.dtype[np.uint8]], encoding: Encoding, factor: float
) -> None:
    for offset, ratio in _FACTORS[encoding]:
        value = np.array([factor * ratio], np.float16)
        blocks[:, offset : offset + 2] = value.view(np.uint8)
