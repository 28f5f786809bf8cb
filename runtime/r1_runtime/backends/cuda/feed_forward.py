"""Feed-forward layers: SwiGLU, and the mixture of experts by two grouped products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.backends.cuda.kernels.grouped_matmul import (
    ExpertMatrices,
    grouped_matmul,
    row_tiles,
    tile_rows,
)
from r1_runtime.backends.cuda.matrices import Linear
from r1_runtime.backends.reference.mixture import Router


@dataclass(frozen=True, slots=True)
class SwiGLU:
    """down(silu(gate(x)) * up(x))."""

    gate_proj: Linear
    up_proj: Linear
    down_proj: Linear

    def __call__(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


@dataclass(frozen=True, slots=True)
class Mixture:
    """Routed experts and shared experts. No size depends on the router's choice, so a graph holds it.

    Attributes:
        gate_up: [E, 2 * inner, hidden], gate rows first.
        down: [E, hidden, inner].
    """

    router: Router
    gate_up: ExpertMatrices
    down: ExpertMatrices
    shared: SwiGLU | None

    def __call__(self, x: Tensor) -> Tensor:
        """x [T, hidden]."""
        chosen, weights = self.router(x)
        rows, each = chosen.shape
        total, device = rows * each, x.device
        ordered, order = chosen.flatten().sort(stable=True)
        numbers = torch.arange(self.gate_up.experts + 1, device=device)
        starts = torch.searchsorted(ordered, numbers).int()
        tiles = row_tiles(starts, total, tile_rows(total, self.gate_up.experts))
        place, order = torch.arange(total, dtype=torch.int32, device=device), order.int()
        inner = grouped_matmul(x, self.gate_up, tiles, order // each, place)
        gate, up = inner.chunk(2, dim=-1)
        # Back to token order, so that the parts of a token are added in a fixed order.
        parts = grouped_matmul(F.silu(gate) * up, self.down, tiles, place, order)
        parts = parts.view(rows, each, -1) * weights.unsqueeze(-1).to(x.dtype)
        routed: Tensor = parts.sum(dim=1)
        return routed if self.shared is None else routed + self.shared(x)
