"""AdamW (Loshchilov & Hutter 2019) by torch's functional form, and a one-cycle learning rate.

The functional form avoids the constructor of ``torch.optim.AdamW``, which imports torch's
compiler: 9.8 s of CPU with torch 2.15, more than the training of a small LSTM takes. The functional
form takes 1 ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """Decoupled weight decay; the learning rate is an argument of each step."""

    def __init__(self, parameters: Iterable[torch.Tensor], weight_decay: float) -> None:
        import torch

        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.step_counts = [torch.tensor(0.0) for _ in self.parameters]
        self.steps = 0

    def step(self, rate: float, clip: float) -> None:
        """Do one step along the gradients, their joint norm clipped; then clear the gradients."""
        import torch
        from torch.optim.adamw import adamw

        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        norm = sum(float((g * g).sum()) for g in gradients) ** 0.5
        shrink = min(1.0, clip / (norm + 1e-12))
        with torch.no_grad():
            adamw(
                self.parameters,
                [g * shrink for g in gradients],
                self.first,
                self.second,
                [],
                self.step_counts,
                foreach=False,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=rate,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )
        for p in self.parameters:
            p.grad = None
        self.steps += 1


def one_cycle(progress: float, peak: float) -> float:
    """Learning rate at ``progress`` in [0, 1]: up to ``peak`` at 30 %, then down to 0.1 %."""
    if progress < 0.3:
        return peak * (0.04 + 0.96 * progress / 0.3)
    return peak * max(1 - (progress - 0.3) / 0.7, 1e-3)
