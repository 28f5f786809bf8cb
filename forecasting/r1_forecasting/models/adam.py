"""AdamW in a dozen lines (Loshchilov & Hutter 2019), because of what torch's own brings along.

Constructing an optimizer of ``torch.optim`` imports torch's compiler: 10 s of CPU on the
core this was written on, longer than the whole training of a small LSTM.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """Decoupled weight decay; the learning rate is given at each step."""

    def __init__(self, parameters: Iterable[torch.Tensor], weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.first = [p.detach().clone().zero_() for p in self.parameters]
        self.second = [p.detach().clone().zero_() for p in self.parameters]
        self.steps = 0

    def step(self, rate: float, clip: float) -> None:
        """One step along the gradients, their joint norm cut to ``clip``; then forgets them."""
        gradients = [
            p.grad if p.grad is not None else p.detach().clone().zero_() for p in self.parameters
        ]
        norm = sum(float((g * g).sum()) for g in gradients) ** 0.5
        shrink = min(1.0, clip / (norm + 1e-12))
        self.steps += 1
        bias1, bias2 = 1 - BETA1**self.steps, 1 - BETA2**self.steps
        for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
            g = g * shrink
            m.mul_(BETA1).add_(g, alpha=1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            weights = p.detach()  # shares storage, so the step needs no graph
            weights.mul_(1 - rate * self.weight_decay)
            weights.addcdiv_(m, (v / bias2).sqrt_().add_(EPSILON), value=-rate / bias1)
            p.grad = None


def one_cycle(progress: float, peak: float) -> float:
    """Learning rate at ``progress`` in [0, 1]: up to ``peak`` at 30 %, then down to nothing."""
    if progress < 0.3:
        return peak * (0.04 + 0.96 * progress / 0.3)
    return peak * max(1 - (progress - 0.3) / 0.7, 1e-3)
