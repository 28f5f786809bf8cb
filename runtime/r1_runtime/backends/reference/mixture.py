"""Mixture of experts: routers of DeepSeek-V2 and V3 and of Qwen, routed experts, shared experts.

DeepSeek-V3 (arXiv 2412.19437, section 2.1.2) adds a learned bias that balances the load without an
auxiliary loss: it affects the *choice* of experts and not their weights.

Experts are stored stacked, [experts, out, in]. Weights are never gathered per token: one token uses
the chosen matrices in place, several tokens are sorted by expert.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import GroupScore, MixtureOfExperts, Scoring
from r1_runtime.backends.reference.modules import SwiGLU
from r1_runtime.experts.dynamic_gate import DynamicGate

# Public since about torch 2.10; earlier versions multiply the segments one by one.
_grouped_mm: Callable[..., Tensor] | None = getattr(F, "grouped_mm", None)


class Router(nn.Module):
    """Chooses the experts of each token.

    Attributes:
        dynamic: how many experts a token uses; None for the model's `experts_per_token`.
    """

    def __init__(self, mixture: MixtureOfExperts, hidden: int) -> None:
        super().__init__()
        self.mixture = mixture
        self.dynamic: DynamicGate | None = None
        self.weight = nn.Parameter(torch.empty(mixture.experts, hidden))
        if mixture.correction_bias:
            self.e_score_correction_bias = nn.Buffer(torch.zeros(mixture.experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Expert numbers and weights of x [T, hidden]: both [T, k]; weights are float32.

        With a dynamic gate, k is the largest number that a token may use, and an expert that a token
        does not use has the weight 0.
        """
        mixture = self.mixture
        logits = F.linear(x.float(), self.weight.float())
        scores = logits.sigmoid() if mixture.scoring is Scoring.SIGMOID else logits.softmax(-1)
        choice = scores + self.e_score_correction_bias if mixture.correction_bias else scores
        if mixture.top_groups < mixture.groups:
            choice = self._within_best_groups(choice)
        if self.dynamic is None:
            experts = choice.topk(mixture.experts_per_token, dim=-1, sorted=False).indices
            used = torch.ones_like(experts, dtype=torch.bool)
        else:
            experts, used = self._reach_mass(scores, choice, self.dynamic)
        weights = used.float() if mixture.unit_weights else scores.gather(-1, experts) * used
        if mixture.normalise and not mixture.unit_weights:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return experts, weights * mixture.scale

    def _reach_mass(
        self, scores: Tensor, choice: Tensor, gate: DynamicGate
    ) -> tuple[Tensor, Tensor]:
        """The best experts, and which of them are in the smallest set that has the mass."""
        most = min(gate.maximum, self.mixture.eligible)
        experts = choice.argsort(dim=-1, descending=True, stable=True)[:, :most]
        ordered = scores.gather(-1, experts)
        target = scores.masked_fill(choice == float("-inf"), 0).sum(-1, keepdim=True) * gate.mass
        before = torch.cat([torch.zeros_like(ordered[:, :1]), ordered.cumsum(-1)[:, :-1]], dim=-1)
        used = before < target
        used[:, : gate.minimum] = True
        return experts, used

    def _within_best_groups(self, choice: Tensor) -> Tensor:
        """The scores, with -inf for experts outside of the `top_groups` best groups."""
        mixture = self.mixture
        grouped = choice.view(len(choice), mixture.groups, -1)
        best = grouped.topk(2 if mixture.group_score is GroupScore.TOP2_SUM else 1, dim=-1)
        groups = best.values.sum(dim=-1).topk(mixture.top_groups, dim=-1).indices
        shut = torch.ones_like(grouped[..., 0], dtype=torch.bool).scatter_(-1, groups, False)
        return grouped.masked_fill(shut.unsqueeze(-1), float("-inf")).flatten(-2)


class RoutedExperts(nn.Module):
    """The routed experts, stacked."""

    def __init__(self, mixture: MixtureOfExperts, hidden: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.empty(mixture.experts, 2 * mixture.inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(mixture.experts, hidden, mixture.inner))

    def forward(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over each token's experts: x [T, hidden], the others [T, k]."""
        if x.shape[0] == 1 and not self.training:
            return self._one_token(x, experts, weights)
        return self._sorted(x, experts, weights)

    def _one_token(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for expert, weight in zip(experts[0].tolist(), weights[0], strict=True):
            gate, up = F.linear(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
            total += F.linear(F.silu(gate) * up, self.down_proj[expert]) * weight.to(x.dtype)
        return total

    def _sorted(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        chosen = experts.shape[1]
        flat = experts.flatten()
        order = flat.argsort(stable=True)
        ends = torch.bincount(flat, minlength=self.gate_up_proj.shape[0]).cumsum(0)
        rows = x[order // chosen]
        gate, up = self._multiply(rows, self.gate_up_proj, ends).chunk(2, dim=-1)
        parts = self._multiply(F.silu(gate) * up, self.down_proj, ends)
        parts = parts * weights.flatten()[order].unsqueeze(-1).to(x.dtype)
        # Back to token order, so that the k parts of a token are added in a fixed order.
        back = torch.empty_like(order).scatter_(
            0, order, torch.arange(len(order), device=order.device)
        )
        return parts[back].view(len(x), chosen, -1).sum(dim=1)

    def _multiply(self, rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
        """Rows up to ends[0] times weight[0] transposed, rows up to ends[1] times weight[1], ..."""
        if _grouped_mm is not None and _groupable(rows, weight):
            return _grouped_mm(rows, weight.transpose(1, 2), offs=ends.int())
        begin, parts = 0, []
        for expert, end in enumerate(ends.tolist()):
            if end > begin:
                parts.append(F.linear(rows[begin:end], weight[expert]))
            begin = end
        return torch.cat(parts)


def _groupable(rows: Tensor, weight: Tensor) -> bool:
    """grouped_mm needs 16-byte rows, and bfloat16 on a GPU."""
    aligned = all(size * rows.element_size() % 16 == 0 for size in weight.shape[1:])
    return aligned and (rows.device.type == "cpu" or rows.dtype == torch.bfloat16)


class MixtureLayer(nn.Module):
    """Routed experts plus the shared ones."""

    def __init__(
        self, mixture: MixtureOfExperts, hidden: int, experts: RoutedExperts | None = None
    ) -> None:
        super().__init__()
        self.gate = Router(mixture, hidden)
        self.experts = RoutedExperts(mixture, hidden) if experts is None else experts
        self.shared_experts = SwiGLU(hidden, mixture.shared_inner) if mixture.shared_inner else None

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        routed: Tensor = self.experts(flat, *self.gate(flat)).view_as(x)
        return routed if self.shared_experts is None else routed + self.shared_experts(x)
