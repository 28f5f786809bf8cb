"""Mixture of experts with DeepSeek-V3's routing (arXiv 2412.19437, section 2.1.2).

Scores are sigmoids. A learned bias balances the load without an auxiliary loss: it affects the
*choice* of experts and not their weights. Experts form groups. The score of a group is the sum of its
two best experts, and only the best `topk_group` groups are eligible. Shared experts compute every
token.

Experts are stored stacked, [experts, out, in]. Weights are never gathered per token: one token uses
the chosen matrices in place, several tokens are sorted by expert.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.config import ModelConfig
from r1_runtime.layers.linear import Linear

# Public since about torch 2.10; earlier versions multiply the segments one by one.
_grouped_mm: Callable[..., Tensor] | None = getattr(F, "grouped_mm", None)


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, hidden: int, intermediate: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden, intermediate, bias=False)
        self.up_proj = Linear(hidden, intermediate, bias=False)
        self.down_proj = Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Router(nn.Module):
    """Chooses `num_experts_per_tok` experts for each token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.e_score_correction_bias = nn.Buffer(torch.zeros(config.n_routed_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Expert numbers and weights of x [T, hidden]: both [T, k]; weights are float32."""
        config = self.config
        scores = F.linear(x.float(), self.weight.float()).sigmoid()
        choice = scores + self.e_score_correction_bias
        if config.topk_group < config.n_group:
            grouped = choice.view(len(choice), config.n_group, -1)
            best = grouped.topk(2, dim=-1).values.sum(dim=-1)
            worst = best.topk(config.n_group - config.topk_group, dim=-1, largest=False).indices
            shut = torch.zeros_like(best, dtype=torch.bool).scatter_(-1, worst, True)
            choice = grouped.masked_fill(shut.unsqueeze(-1), float("-inf")).flatten(-2)
        experts = choice.topk(config.num_experts_per_tok, dim=-1, sorted=False).indices
        weights = scores.gather(-1, experts)
        if config.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return experts, weights * config.routed_scaling_factor


class Experts(nn.Module):
    """The routed experts, stacked."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, hidden = config.n_routed_experts, config.hidden_size
        inner = config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum over each token's experts: x [T, hidden], the others [T, k]."""
        if x.shape[0] == 1 and not self.training:
            return self._one_token(x, experts, weights)
        return self._sorted(x, experts, weights)

    def _one_token(self, x: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        total: Tensor | None = None
        for expert, weight in zip(experts[0].tolist(), weights[0], strict=True):
            gate, up = F.linear(x, self.gate_up_proj[expert]).chunk(2, dim=-1)
            part = F.linear(F.silu(gate) * up, self.down_proj[expert]) * weight.to(x.dtype)
            total = part if total is None else total + part
        assert total is not None  # noqa: S101  (k is at least 1)
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


class MixtureOfExperts(nn.Module):
    """Routed experts plus the shared ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_experts = FeedForward(
            config.hidden_size, config.moe_intermediate_size * config.n_shared_experts
        )

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        experts, weights = self.gate(flat)
        return self.experts(flat, experts, weights).view_as(x) + self.shared_experts(x)  # type: ignore[no-any-return]
