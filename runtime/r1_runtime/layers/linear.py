"""Linear and embedding layers without initial values.

torch's own modules fill their weights with random numbers, which a loader overwrites. Its "meta"
device avoids that, but imports torch's compiler. Here the memory is allocated and not written, so
that no page is used until a loader replaces it or a trainer fills it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Module):
    """`x @ weight.T + bias`; weight is [outputs, inputs]."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """One row of `size` floats per token number."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, size))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)
