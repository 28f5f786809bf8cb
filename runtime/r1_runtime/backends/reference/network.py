"""The network of any description, in torch: readable, differentiable, the oracle of other backends.

Module names follow the published checkpoints, without the prefix `model.`; only the routed experts
are stacked. Parameters have no initial values: a loader or a trainer fills them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    Layer,
    ModelDescription,
    Rope,
)
from r1_runtime.backends.reference.grouped_query_attention import GroupedQueryLayer
from r1_runtime.backends.reference.latent_attention import LatentLayer
from r1_runtime.backends.reference.mixture import MixtureLayer, RoutedExperts
from r1_runtime.backends.reference.modules import Embedding, Linear, RMSNorm, SwiGLU
from r1_runtime.backends.reference.rotary import cos_sin
from r1_runtime.backends.reference.step_layout import StepLayout


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each on a normed residual stream.

    Args:
        layer: the sizes.
        hidden: size of a row.
        norm_eps: epsilon of the norms.
        experts: the routed experts; None for all of them.
    """

    def __init__(
        self, layer: Layer, hidden: int, norm_eps: float, experts: RoutedExperts | None = None
    ) -> None:
        super().__init__()
        self.rope = layer.attention.rope
        self.self_attn: GroupedQueryLayer | LatentLayer = (
            GroupedQueryLayer(layer.attention, hidden, norm_eps)
            if isinstance(layer.attention, GroupedQueryAttention)
            else LatentLayer(layer.attention, hidden)
        )
        self.mlp: SwiGLU | MixtureLayer = (
            SwiGLU(hidden, layer.feed_forward.inner)
            if isinstance(layer.feed_forward, DenseFeedForward)
            else MixtureLayer(layer.feed_forward, hidden, experts)
        )
        self.input_layernorm = RMSNorm(hidden, norm_eps)
        self.post_attention_layernorm = RMSNorm(hidden, norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]

    def forward_paged(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepLayout
    ) -> Tensor:
        x = x + self.self_attn.forward_paged(self.input_layernorm(x), cos, sin, cache, step)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Network(nn.Module):
    """The network with its output head."""

    def __init__(self, description: ModelDescription) -> None:
        super().__init__()
        hidden, eps = description.hidden_size, description.norm_eps
        self.description = description
        self.embed_tokens = Embedding(description.vocab_size, hidden)
        self.layers = nn.ModuleList(
            DecoderLayer(layer, hidden, eps) for layer in description.layers
        )
        self.norm = RMSNorm(hidden, eps)
        if not description.tied_head:
            self.lm_head = Linear(hidden, description.vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, length, vocab] of whole sequences [batch, length], without a cache."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        tables = self._rotary_tables(positions)
        x = self.embed_tokens(tokens)
        for layer in self.decoder_layers():
            x = layer(x, *tables[layer.rope])
        return self._logits(x)

    @torch.inference_mode()
    def forward_paged(self, caches: Sequence[Tensor], step: StepLayout) -> Tensor:
        """Logits [outputs, vocab], float32, of one step.

        Args:
            caches: [slots, cache_width] of each layer, written in place.
            step: the rows.
        """
        tables = self._rotary_tables(step.positions)
        x = self.embed_tokens(step.tokens)
        for layer, cache in zip(self.decoder_layers(), caches, strict=True):
            x = layer.forward_paged(x, *tables[layer.rope], cache, step)
        return self._logits(x[step.output_rows]).float()

    def decoder_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _rotary_tables(self, positions: Tensor) -> dict[Rope, tuple[Tensor, Tensor]]:
        """Cosines and sines of each distinct rotary embedding; usually there is one."""
        ropes = {layer.rope for layer in self.decoder_layers()}
        return {rope: cos_sin(rope, positions) for rope in ropes}

    def _logits(self, x: Tensor) -> Tensor:
        weight = self.embed_tokens.weight if self.description.tied_head else self.lm_head.weight
        return F.linear(self.norm(x), weight)
