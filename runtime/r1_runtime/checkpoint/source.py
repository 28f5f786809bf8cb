"""A checkpoint as a backend sees it: a description and named tensors, read from mapped files.

Names are those of the published Hugging Face checkpoints without the prefix `model.`, one matrix per
expert (`layers.3.mlp.experts.7.gate_proj.weight`). Readers map other layouts to these names: fused
experts, GGUF names and its permuted rotary rows.

No module here imports torch: a pod that serves with the native backend never loads it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import ModelDescription


class Encoding(enum.StrEnum):
    """Stored form of a tensor's values, row-major. GGUF block formats have GGUF's names."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    F8_E4M3 = "F8_E4M3"  # with `scale`: one float32 factor per 128 x 128 block (DeepSeek-V3)
    Q8_0 = "Q8_0"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q5_0 = "Q5_0"
    Q5_1 = "Q5_1"
    Q2_K = "Q2_K"
    Q3_K = "Q3_K"
    Q4_K = "Q4_K"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor in its file; `decoding.decode` returns its values as float32.

    Attributes:
        name: the published name without `model.`.
        shape: logical shape; a matrix is (outputs, inputs).
        encoding: how `data` stores the values.
        data: the stored bytes, contiguous; usually a view of a mapped file.
        scale: block factors of F8_E4M3, float32 [ceil(outputs / 128), ceil(inputs / 128)].
    """

    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    data: NDArray[np.uint8]
    scale: NDArray[np.float32] | None = None


class Checkpoint(Protocol):
    """An open checkpoint."""

    @property
    def description(self) -> ModelDescription:
        """The network."""

    def names(self) -> frozenset[str]:
        """Names of all tensors that the network uses."""

    def tensor(self, name: str) -> StoredTensor:
        """The tensor of this name.

        Raises:
            ModelLoadError: the checkpoint lacks it, or its shape is not the network's.
        """

    def release(self, tensor: StoredTensor) -> None:
        """Let the kernel drop the pages of a tensor that has been converted."""
