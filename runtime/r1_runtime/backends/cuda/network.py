"""The network on the device: from the arrays of a step to logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from r1_runtime.architecture.description import Attention, ModelDescription, Rope
from r1_runtime.backends.cuda.attention import GroupedQueryLayer, LatentLayer, Norm
from r1_runtime.backends.cuda.feed_forward import Mixture, SwiGLU
from r1_runtime.backends.cuda.matrices import Linear
from r1_runtime.backends.cuda.step_arrays import StepArrays


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Attention and feed-forward, each on a normed residual stream."""

    input_norm: Norm
    attention: GroupedQueryLayer | LatentLayer
    post_attention_norm: Norm
    feed_forward: SwiGLU | Mixture


@dataclass(frozen=True, slots=True)
class Rotation:
    """Frequencies [dim / 2] of a rotary embedding on the device, and the factor on cosines and sines."""

    frequencies: Tensor
    scale: float

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions [T], float32 [T, dim / 2] each."""
        angles = torch.outer(positions.float(), self.frequencies)
        return angles.cos() * self.scale, angles.sin() * self.scale


@dataclass(frozen=True, slots=True)
class Network:
    """A loaded network.

    Attributes:
        rotations: of each distinct rotary embedding; usually there is one.
        weight_bytes: bytes of all matrices that a step reads at least in part.
    """

    description: ModelDescription
    embedding: Tensor
    layers: Sequence[DecoderLayer]
    rotations: dict[Rope, Rotation]
    norm: Norm
    head: Linear
    weight_bytes: int

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Distinct attentions, in the order of the layers."""
        return tuple(dict.fromkeys(layer.attention for layer in self.description.layers))

    def logits(self, caches: Sequence[Tensor], step: StepArrays) -> Tensor:
        """Logits [S, vocab], float32; the rows' cache entries are written.

        Args:
            caches: [slots, values per token] of each layer.
            step: the rows.
        """
        return self.outputs(self.states(caches, step), step)

    def states(self, caches: Sequence[Tensor], step: StepArrays) -> Tensor:
        """Hidden states [T, hidden] before the final norm; see `logits`."""
        positions = step.tables.positions
        tables = {rope: each.tables(positions) for rope, each in self.rotations.items()}
        x = F.embedding(step.tokens, self.embedding)
        for layer, cache in zip(self.layers, caches, strict=True):
            cos, sin = tables[layer.attention.attention.rope]
            x = x + layer.attention(layer.input_norm(x), cos, sin, cache, step)
            x = x + layer.feed_forward(layer.post_attention_norm(x))
        return x

    def outputs(self, x: Tensor, step: StepArrays) -> Tensor:
        """Logits [S, vocab], float32, of the output rows of hidden states [T, hidden]."""
        if step.output_rows is not None:
            x = x[step.output_rows.long()]
        return self.head(self.norm(x)).float()
