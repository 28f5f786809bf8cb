"""From a checkpoint to a network of the reference backend."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from r1_runtime.backends.reference.mixture import Router
from r1_runtime.backends.reference.network import Network
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.experts.dynamic_gate import DynamicGate

_STACKED = re.compile(r"(.*\.experts\.)(gate_up|down)_proj")


def load_network(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    with_draft_layer: bool = False,
    gate: DynamicGate | None = None,
) -> Network:
    """The network with the checkpoint's weights, ready for inference.

    Args:
        checkpoint: an open checkpoint.
        dtype: data type of weights and computation; the routers' biases stay float32.
        device: torch device.
        with_draft_layer: load the layer that drafts a token as well.
        gate: how many experts a token uses; None for the model's own number.

    Raises:
        ModelLoadError: the checkpoint lacks a tensor.
    """
    description = checkpoint.description
    network = Network(description, with_draft_layer=with_draft_layer)
    draft_prefix = f"layers.{len(description.layers)}."
    state: dict[str, Tensor] = {}
    for name, parameter in network.state_dict().items():
        kept = torch.float32 if name.endswith("e_score_correction_bias") else dtype
        target = torch.empty(parameter.shape, dtype=kept, device=device)
        for source, part in stored_parts(name.replace("draft_layer.", draft_prefix), target):
            _copy(checkpoint, source, part)
        state[name] = target
    network.load_state_dict(state, strict=True, assign=True)
    for module in network.modules():
        if isinstance(module, Router):
            module.dynamic = gate
    return network.requires_grad_(False).eval()


def stored_parts(name: str, value: Tensor, first_expert: int = 0) -> Iterator[tuple[str, Tensor]]:
    """(name in a checkpoint, view) of the matrices that a parameter of the network stacks."""
    match = _STACKED.fullmatch(name)
    if match is None:
        yield name, value
        return
    for expert, matrix in enumerate(value, first_expert):
        stem = f"{match[1]}{expert}"
        if match[2] == "down":
            yield f"{stem}.down_proj.weight", matrix
        else:
            gate, up = matrix.chunk(2)
            yield f"{stem}.gate_proj.weight", gate
            yield f"{stem}.up_proj.weight", up


def _copy(checkpoint: Checkpoint, name: str, target: Tensor) -> None:
    stored = checkpoint.tensor(name)
    target.copy_(torch.from_numpy(decode(stored)))
    checkpoint.release(stored)
