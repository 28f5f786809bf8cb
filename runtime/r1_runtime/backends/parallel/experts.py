"""Routed experts of which only some are on this rank."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.architecture.description import MixtureOfExperts
from r1_runtime.backends.reference.mixture import RoutedExperts


class LocalExperts(RoutedExperts):
    """The experts of this rank, stacked; the sum over the ranks is that of all experts.

    Args:
        mixture: the whole mixture.
        hidden: size of a row.
        local: numbers of the experts on this rank.
    """

    def __init__(self, mixture: MixtureOfExperts, hidden: int, local: range) -> None:
        super().__init__(replace(mixture, experts=len(local)), hidden)
        self.local = local

    def forward(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over each token's experts on this rank: x [T, hidden], the others [T, k]."""
        here = (experts >= self.local.start) & (experts < self.local.stop)
        tokens, choices = here.nonzero(as_tuple=True)
        # A place for each choice, so that the parts of a token are added in a fixed order.
        parts = x.new_zeros(*experts.shape, x.shape[-1])
        if len(tokens):
            numbers = experts[tokens, choices] - self.local.start
            order = numbers.argsort(stable=True)
            tokens, choices = tokens[order], choices[order]
            ends = torch.bincount(numbers, minlength=len(self.local)).cumsum(0)
            gate, up = self._multiply(x[tokens], self.gate_up_proj, ends).chunk(2, dim=-1)
            result = self._multiply(F.silu(gate) * up, self.down_proj, ends)
            share = weights[tokens, choices].unsqueeze(-1).to(x.dtype)
            parts[tokens, choices] = result * share
        return parts.sum(dim=1)
