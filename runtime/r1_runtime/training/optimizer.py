"""Optimizer: Muon for matrices, Adam for other parameters.

Muon (Keller Jordan, 2024) replaces the momentum of a weight matrix by the nearest orthogonal
matrix, computed by five Newton-Schulz steps. On few tokens it learns faster than Adam, which matters
for a model trained on two CPU cores. Master weights are float32; the model computes in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def orthogonalise(matrix: Tensor) -> Tensor:
    """The quintic Newton-Schulz iteration on the last two dimensions, in bfloat16.

    The coefficients are Jordan's: steep at zero; singular values converge to 0.7 to 1.2.
    """
    x = matrix.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.flatten(-2).norm(dim=-1)[..., None, None] + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    result: Tensor = x.mT if tall else x
    return result.float()


class MasterWeights:
    """Float32 copies of the bfloat16 parameters, with optimiser state and a running average.

    Args:
        named: the model's parameters.
        average: decay per step of the running average, which is exported.
    """

    def __init__(self, named: Iterable[tuple[str, Tensor]], average: float = 0.99) -> None:
        self._model = dict(named)
        self.master = {name: value.detach().float().clone() for name, value in self._model.items()}
        self.averaged = {name: value.clone() for name, value in self.master.items()}
        self._first = {name: torch.zeros_like(value) for name, value in self.master.items()}
        self._second = {
            name: torch.zeros_like(value)
            for name, value in self.master.items()
            if not self._is_hidden_matrix(name)
        }
        self._average = average
        self._steps = 0

    def _is_hidden_matrix(self, name: str) -> bool:
        flat = self._model[name].dim() < 2
        return not flat and not any(
            part in name for part in ("embed", "lm_head", "mlp.gate.weight")
        )

    @torch.no_grad()
    def step(self, rate: float, muon_rate: float = 0.02, adam_rate: float = 0.004) -> None:
        """One update; `rate` in 0..1 is the schedule's factor on both learning rates."""
        self._steps += 1
        grads = [value.grad for value in self._model.values() if value.grad is not None]
        norm = torch.stack([grad.float().norm() for grad in grads]).norm()
        clip = min(1.0, 1.0 / (float(norm) + 1e-6))
        for name, parameter in self._model.items():
            if parameter.grad is None:
                continue
            grad = parameter.grad.float()
            master = self.master[name]
            if name in self._second:
                update = self._adam(name, grad * clip) * (adam_rate * rate)
            else:
                momentum = self._first[name].mul_(0.95).add_(grad)
                update = orthogonalise(grad.add(momentum, alpha=0.95))
                rows, columns = master.shape[-2:]
                scale = muon_rate * rate * max(1.0, rows / columns) ** 0.5
                update = update.mul_(scale)
                master.mul_(1 - 0.02 * muon_rate * rate)
            master.sub_(update)
            decay = min(self._average, self._steps / (self._steps + 10))
            self.averaged[name].lerp_(master, 1 - decay)
            parameter.copy_(master)
            parameter.grad = None

    @torch.no_grad()
    def load_into_model(self, values: Mapping[str, Tensor]) -> None:
        """Set the model's own parameters, to the masters or to their running average."""
        for name, parameter in self._model.items():
            parameter.copy_(values[name])

    def _adam(self, name: str, grad: Tensor) -> Tensor:
        first = self._first[name].lerp_(grad, 1 - 0.9)
        second = self._second[name].lerp_(grad.square(), 1 - 0.98)
        bias_one, bias_two = 1 - 0.9**self._steps, 1 - 0.98**self._steps
        return (first / bias_one) / ((second / bias_two).sqrt() + 1e-8)
