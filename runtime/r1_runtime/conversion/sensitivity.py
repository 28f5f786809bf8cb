"""How much the model's output depends on each direction of the residual stream, layer by layer.

An error d that a layer adds to a token's state raises the divergence of the output distribution by about
d . G d / 2, where G is the mean of g g^T and g is the gradient of the log-probability of tokens drawn from the
model itself (Fisher information; Optimal Brain Surgeon uses the same expansion). A square root of G turns
that into a plain squared norm: outputs of experts are multiplied by it before they are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.backends.reference.network import Network
from r1_runtime.backends.reference.rotary import cos_sin


def output_metrics(network: Network, windows: Tensor, seed: int) -> Tensor:
    """A square root [layers, hidden, hidden] of G after each layer.

    Args:
        network: dense, float32.
        windows: [windows, length] tokens.
        seed: of the drawn tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = network.description.hidden_size
    total = torch.zeros(len(network.decoder_layers()), hidden, hidden)
    for window in windows:
        for layer, gradient in enumerate(_gradients(network, window[None], generator)):
            total[layer] += gradient.T @ gradient
    values, vectors = torch.linalg.eigh(total / windows.numel())
    return vectors @ (values.clamp_min(0).sqrt().unsqueeze(-1) * vectors.transpose(1, 2))


def _gradients(network: Network, tokens: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Gradient [length, hidden] after each layer, of the summed log-probability of drawn tokens."""
    states = []
    positions = torch.arange(tokens.shape[1])
    with torch.enable_grad():
        x = network.embed_tokens(tokens).detach().requires_grad_()
        for layer in network.decoder_layers():
            x = layer(x, *cos_sin(layer.rope, positions))
            x.retain_grad()
            states.append(x)
        head = network.embed_tokens if network.description.tied_head else network.lm_head
        logits = F.linear(network.norm(x), head.weight)[0]
        drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
        F.cross_entropy(logits, drawn, reduction="sum").backward()  # type: ignore[no-untyped-call]
    for state in states:
        assert state.grad is not None  # noqa: S101
        yield state.grad[0]
