"""A GGUF model, in one file or in numbered parts, as a `Checkpoint`.

Matrices stay as the file stores them, views of the mapped pages. Two weights are copies: the reordered
rows of architecture llama, and kv_b_proj where the file stores its two halves (as float32).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.gguf_description import describe_gguf
from r1_runtime.checkpoint.gguf_header import GgufHeader, GgufTensor, read_header
from r1_runtime.checkpoint.gguf_names import (
    InterleavedRows,
    Part,
    Placement,
    SplitLatent,
    parts,
    place,
    unused,
)
from r1_runtime.checkpoint.gguf_paths import numbered_parts
from r1_runtime.checkpoint.source import Encoding, StoredTensor
from r1_runtime.errors import ModelLoadError

_FIX_COPY = "copy the model again."


class GgufCheckpoint:
    """An open GGUF model.

    Args:
        path: the file, or the first of numbered parts.
        positions: longest sequence that will be computed; None for the model's own limit.

    Raises:
        ModelLoadError: a file is unreadable or truncated, the network is not implemented, a tensor is
            missing, has another shape or has no place in the network.
    """

    def __init__(self, path: Path, *, positions: int | None = None) -> None:
        self._path = path
        headers = [read_header(file) for file in numbered_parts(path)]
        self._tensors = {
            name: (header, tensor) for header in headers for name, tensor in header.tensors.items()
        }
        tensors = {name: tensor for name, (_, tensor) in self._tensors.items()}
        self._description = describe_gguf(
            headers[0].metadata, tensors, self._divisors(), path, positions=positions
        )
        self._shapes = weight_shapes(self._description)
        self._placements = {name: place(self._description, name, tensors) for name in self._shapes}
        self._check()

    @property
    def description(self) -> ModelDescription:
        """The network."""
        return self._description

    def names(self) -> frozenset[str]:
        """Names of all tensors that the network uses."""
        return frozenset(self._shapes)

    def tensor(self, name: str) -> StoredTensor:
        """The tensor of this name.

        Raises:
            ModelLoadError: the network has no such tensor.
        """
        placement, shape = self._placements.get(name), self._shapes.get(name)
        if placement is None or shape is None:
            raise ModelLoadError(self._path, f"the network has no tensor {name}.", _FIX_COPY)
        if isinstance(placement, SplitLatent):
            data, encoding = self._joined_latent(placement).view(np.uint8), Encoding.F32
        elif isinstance(placement, InterleavedRows):
            data, encoding = self._bytes(placement.part)
            data = _separated_halves(data, placement.heads, shape[0])
        else:
            data, encoding = self._bytes(placement.part)
        return StoredTensor(name, shape, encoding, data)

    def release(self, tensor: StoredTensor) -> None:
        """Let the kernel drop the pages of a tensor that has been converted."""
        for part in parts(self._placements[tensor.name]):
            header, stored = self._part(part)
            first = -(-stored.offset // mmap.PAGESIZE) * mmap.PAGESIZE
            last = (stored.offset + stored.size) // mmap.PAGESIZE * mmap.PAGESIZE
            if last > first:
                header.mapped.madvise(mmap.MADV_DONTNEED, first, last - first)

    def _part(self, part: Part) -> tuple[GgufHeader, GgufTensor]:
        header, tensor = self._tensors[part.tensor]
        if part.expert is None:
            return header, tensor
        size = tensor.size // tensor.shape[0]
        offset = tensor.offset + part.expert * size
        return header, GgufTensor(tensor.shape[1:], tensor.encoding, offset, size)

    def _bytes(self, part: Part) -> tuple[NDArray[np.uint8], Encoding]:
        header, tensor = self._part(part)
        return np.frombuffer(header.mapped, np.uint8, tensor.size, tensor.offset), tensor.encoding

    def _decoded(self, part: Part) -> NDArray[np.float32]:
        data, encoding = self._bytes(part)
        return decode(StoredTensor(part.tensor, self._part(part)[1].shape, encoding, data))

    def _joined_latent(self, placement: SplitLatent) -> NDArray[np.float32]:
        """kv_b_proj, float32, flat: for each head its keys, then its values."""
        keys, values = self._decoded(placement.keys), self._decoded(placement.values)
        return np.concatenate((keys.swapaxes(1, 2), values), axis=1).reshape(-1)

    def _divisors(self) -> NDArray[np.float32] | None:
        part = Part("rope_freqs.weight")
        return self._decoded(part) if part.tensor in self._tensors else None

    def _check(self) -> None:
        used: dict[str, object] = {}
        for name, placement in self._placements.items():
            for part, expected in self._expected(placement, self._shapes[name]):
                used[part.tensor] = True
                if part.tensor not in self._tensors:
                    raise ModelLoadError(self._path, f"tensor {part.tensor} is missing.", _FIX_COPY)
                shape = self._tensors[part.tensor][1].shape
                if part.expert is not None and len(shape) > len(expected):
                    fits = shape[1:] == expected and part.expert < shape[0]
                else:
                    fits = shape == expected
                if not fits:
                    raise ModelLoadError(
                        self._path,
                        f"tensor {part.tensor} has shape {list(shape)}, but the metadata"
                        f" say {list(expected)} for {name}.",
                        "convert the model again.",
                    )
        further = unused(self._tensors, used, len(self._description.layers))
        if further:
            raise ModelLoadError(
                self._path,
                f"tensor {further[0]} ({len(further)} such) has no place in architecture"
                f" {self._description.family}.",
                "serve a model without it, or use llama.cpp.",
            )

    def _expected(
        self, placement: Placement, shape: tuple[int, ...]
    ) -> Iterator[tuple[Part, tuple[int, ...]]]:
        """Shape of each part (of one expert, where the part is one)."""
        if isinstance(placement, SplitLatent):
            heads, rank = placement.heads, shape[1]
            attention = self._description.layers[0].attention
            nope = getattr(attention, "qk_nope_head_dim", 0)
            yield placement.keys, (heads, rank, nope)
            yield placement.values, (heads, shape[0] // heads - nope, rank)
        else:
            yield placement.part, shape


def _separated_halves(data: NDArray[np.uint8], heads: int, rows: int) -> NDArray[np.uint8]:
    """Rows (x0, y0, x1, y1, ...) of each head become (x0, x1, ..., y0, y1, ...).

    Blocks lie within rows, so whole rows move and every encoding stays as it is.
    """
    per_head = rows // heads
    return data.reshape(heads, per_head // 2, 2, -1).swapaxes(1, 2).reshape(-1)
