"""Dense matrices of the network, in the computation's type or as stored FP8 blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.backends.cuda.kernels.grouped_matmul import (
    ExpertMatrices,
    RowTiles,
    grouped_matmul,
    tile_rows,
)


class Linear(Protocol):
    """`x @ weight.T + bias` for x [T, inputs]."""

    def __call__(self, x: Tensor) -> Tensor:
        """[T, outputs] in the type of x."""

    @property
    def bytes(self) -> int:
        """Bytes that a product reads."""


@dataclass(frozen=True, slots=True)
class DenseLinear:
    """A matrix [outputs, inputs] in the computation's type, multiplied by torch."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    @property
    def bytes(self) -> int:
        return self.weight.nbytes


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A packed matrix: the grouped product with one expert."""

    matrix: ExpertMatrices
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        count, device = len(x), x.device
        rows = tile_rows(count, 1)
        tiles = -(-count // rows)
        pair = torch.arange(2, dtype=torch.int32, device=device)
        each = torch.arange(count, dtype=torch.int32, device=device)
        one = torch.zeros(tiles, dtype=torch.int32, device=device)
        out = grouped_matmul(
            x, self.matrix, RowTiles(pair * count, pair * tiles, one, rows), each, each
        )
        return out if self.bias is None else out + self.bias

    @property
    def bytes(self) -> int:
        return self.matrix.bytes
