"""A router that predicts how much each expert contributes to a token, and the error of its choices."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.conversion.neuron_groups import NeuronGroups

_BATCH = 1024
_LEARNING_RATE = 0.003


def expert_outputs(inner: Tensor, down: Tensor, groups: NeuronGroups) -> Iterator[Tensor]:
    """Output [T, hidden] of each expert, for neuron values [T, neurons] and down_proj."""
    for neurons in groups.experts:
        yield inner[:, neurons] @ down[:, neurons].T


def contribution_energy(inner: Tensor, down: Tensor, groups: NeuronGroups) -> Tensor:
    """Squared norm of each expert's output, [T, experts]."""
    return torch.stack(
        [output.square().sum(1) for output in expert_outputs(inner, down, groups)], dim=1
    )


def fit_router(x: Tensor, energy: Tensor, steps: int, seed: int) -> Tensor:
    """Weights [experts, hidden] whose softmax predicts each expert's share of the energy.

    Args:
        x: [T, hidden] inputs of the layer.
        energy: [T, experts] of `contribution_energy`.
        steps: Adam steps of 1,024 tokens; the rate falls linearly to zero.
        seed: of the batches.
    """
    share = energy / energy.sum(1, keepdim=True).clamp_min(1e-30)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(energy.shape[1], x.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=_LEARNING_RATE)
    with torch.enable_grad():
        for step in range(steps):
            rows = torch.randint(len(x), (min(_BATCH, len(x)),), generator=generator)
            logits = x[rows] @ weight.T
            loss = -(share[rows] * F.log_softmax(logits, dim=-1)).sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.param_groups[0]["lr"] = _LEARNING_RATE * (1 - step / steps)
            optimizer.step()
    return weight.detach()


def dropped_error(
    logits: Tensor, inner: Tensor, down: Tensor, groups: NeuronGroups, scale: Tensor
) -> Tensor:
    """Relative error [experts + 1] of the residual stream when the best k experts of each token run.

    Args:
        logits: [T, experts] of the router.
        inner: [T, neurons] neuron values.
        down: [hidden, neurons] of the layer.
        groups: of the neurons.
        scale: [T] squared norm of the residual stream after the layer.
    """
    outputs = torch.stack(list(expert_outputs(inner, down, groups)), dim=1)
    order = logits.argsort(dim=1, stable=True)  # the worst first: they are dropped first
    ordered = outputs.gather(1, order.unsqueeze(-1).expand_as(outputs))
    dropped = ordered.cumsum(1).square().sum(-1) / scale.unsqueeze(1)
    return torch.cat([dropped.new_zeros(1), dropped.mean(0)]).flip(0)
