"""One layer of the network: attention and feed-forward, each on a normed residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    Layer,
)
from r1_runtime.backends.reference.grouped_query_attention import GroupedQueryLayer
from r1_runtime.backends.reference.latent_attention import LatentLayer
from r1_runtime.backends.reference.mixture import MixtureLayer, RoutedExperts
from r1_runtime.backends.reference.modules import RMSNorm, SwiGLU
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
