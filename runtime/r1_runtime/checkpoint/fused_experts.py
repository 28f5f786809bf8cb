"""Experts that a checkpoint stores as one tensor per layer, seen as one matrix per expert.

Newer versions of `transformers` fuse gate and up projections of all experts to `gate_up_proj`
[experts, 2 x inner, hidden] and store `down_proj` [experts, hidden, inner]. Some checkpoints have both
transposed: [experts, hidden, 2 x inner] and [experts, inner, hidden].
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import MixtureOfExperts, ModelDescription
from r1_runtime.checkpoint.safetensors_files import FileTensor
from r1_runtime.errors import ModelLoadError

_FUSED = re.compile(r"layers\.\d+\.mlp\.experts\.(gate_up|down)_proj(\.weight)?")
_WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32}


@dataclass(frozen=True, slots=True)
class ExpertPart:
    """Rows [begin, end) of one expert's matrix in a fused tensor, before a transposition."""

    tensor: FileTensor
    expert: int
    begin: int
    end: int
    transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        inputs = self.tensor.shape[1 if self.transposed else 2]
        return (self.end - self.begin, inputs)

    def data(self) -> NDArray[np.uint8]:
        """The part's bytes: a view, or a copy where the file has it transposed."""
        count, rows, columns = self.tensor.shape
        stored = self.tensor.data
        word = _WORDS[stored.size // (count * rows * columns)]
        matrix = stored.view(word).reshape(count, rows, columns)[self.expert]
        part = matrix.T[self.begin : self.end] if self.transposed else matrix[self.begin : self.end]
        flat: NDArray[np.uint8] = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        return flat


def is_fused(name: str) -> bool:
    """Whether a tensor (without the prefix `model.`) has all experts of a layer."""
    return _FUSED.fullmatch(name) is not None


def split_experts(
    fused: Mapping[str, FileTensor], description: ModelDescription
) -> Iterator[tuple[str, ExpertPart]]:
    """(name of one expert's matrix, its part) for all fused tensors.

    Raises:
        ModelLoadError: with the tensor whose shape is not that of the layer's experts.
    """
    shapes = {name: _shape(name, tensor, description) for name, tensor in fused.items()}
    # Square matrices show no orientation; the layer's other tensor then does.
    transposed = {
        _stem(name)
        for name, tensor in fused.items()
        if tensor.shape == _turned(shapes[name]) != shapes[name]
    }
    for name, tensor in fused.items():
        shape, turned = shapes[name], _stem(name) in transposed
        if tensor.shape != (_turned(shape) if turned else shape):
            raise ModelLoadError(
                tensor.file.path,
                f"{tensor.name} has shape {list(tensor.shape)}; config.json requires"
                f" {list(shape)} or {list(_turned(shape))}.",
                "use the config.json that belongs to these weights.",
            )
        for expert in range(shape[0]):
            for kind, begin, end in _rows(name, shape[1]):
                part = ExpertPart(tensor, expert, begin, end, turned)
                yield f"{_stem(name)}{expert}.{kind}_proj.weight", part


def _shape(name: str, tensor: FileTensor, description: ModelDescription) -> tuple[int, int, int]:
    """Shape of a fused tensor that is not transposed."""
    layer = int(name.split(".")[1])
    experts = description.layers[layer].feed_forward if layer < len(description.layers) else None
    if not isinstance(experts, MixtureOfExperts):
        raise ModelLoadError(
            tensor.file.path,
            f"the weights have {tensor.name}, but layer {layer} has no experts.",
            "use the config.json that belongs to these weights.",
        )
    hidden, inner = description.hidden_size, experts.inner
    rows, columns = (2 * inner, hidden) if "gate_up_proj" in name else (hidden, inner)
    return experts.experts, rows, columns


def _turned(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return shape[0], shape[2], shape[1]


def _stem(name: str) -> str:
    return name[: name.index("experts.") + len("experts.")]


def _rows(name: str, rows: int) -> tuple[tuple[str, int, int], ...]:
    """Projection and rows of each matrix that an expert has in the tensor."""
    if "gate_up_proj" in name:
        return ("gate", 0, rows // 2), ("up", rows // 2, rows)
    return (("down", 0, rows),)
