"""GGUF's block formats to float32, by the `gguf` package.

The import takes .3 s of CPU: it happens with the first tensor that is decoded.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from r1_runtime.checkpoint.block_formats import BLOCK_FORMATS
from r1_runtime.checkpoint.source import StoredTensor

BLOCK_ENCODINGS = tuple(encoding for encoding, block in BLOCK_FORMATS.items() if block.values > 1)
_BLOCKS_PER_ROW = 512  # rows are decoded by 16: the temporary arrays stay in the processor's cache


def decode_blocks(tensor: StoredTensor) -> NDArray[np.float32]:
    """The values of a tensor in one of GGUF's block formats, in its shape."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[tensor.encoding.name]
    size = BLOCK_FORMATS[tensor.encoding].bytes
    blocks = tensor.data.reshape(-1, size)
    # Blocks are independent, so rows of any number of blocks give the same values.
    whole = len(blocks) // _BLOCKS_PER_ROW * _BLOCKS_PER_ROW
    decoded = [
        dequantize(group, kind).ravel()
        for group in (blocks[:whole].reshape(-1, _BLOCKS_PER_ROW * size), blocks[whole:])
        if group.size
    ]
    values = decoded[0] if len(decoded) == 1 else np.concatenate(decoded)
    return cast("NDArray[np.float32]", values.reshape(tensor.shape))
