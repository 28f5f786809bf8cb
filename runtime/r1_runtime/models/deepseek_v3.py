"""DeepSeek-V3 (arXiv 2412.19437): latent attention, dense layers first, then mixtures of experts.

Module names follow the published checkpoints, without the `model.` prefix, so that loading maps
names. Parameters have no initial values: a loader or a trainer fills them all.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from r1_runtime.config import ModelConfig
from r1_runtime.layers.attention import LatentAttention
from r1_runtime.layers.context import StepContext
from r1_runtime.layers.linear import Embedding, Linear
from r1_runtime.layers.moe import FeedForward, MixtureOfExperts
from r1_runtime.layers.norm import RMSNorm
from r1_runtime.layers.rotary import rotary_table


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each on a normed residual stream."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.self_attn = LatentAttention(config)
        self.mlp: nn.Module = (
            MixtureOfExperts(config)
            if config.is_moe_layer(index)
            else FeedForward(config.hidden_size, config.intermediate_size)
        )
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]

    def forward_paged(
        self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, step: StepContext
    ) -> Tensor:
        x = x + self.self_attn.forward_paged(self.input_layernorm(x), cos, sin, cache, step)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class DeepseekV3(nn.Module):
    """The network with its output head.

    Args:
        config: the checkpoint's shape.
        max_length: positions that the rotary table covers; at most max_position_embeddings.
    """

    rotary: Tensor

    def __init__(self, config: ModelConfig, max_length: int | None = None) -> None:
        super().__init__()
        length = min(max_length or config.max_position_embeddings, config.max_position_embeddings)
        self.config = replace(config, max_position_embeddings=length)
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        layers = [DecoderLayer(config, index) for index in range(config.num_hidden_layers)]
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.register_buffer("rotary", rotary_table(config, length), persistent=False)

    def hidden(self, tokens: Tensor) -> Tensor:
        """Normed last hidden states [batch, length, hidden] of whole sequences, no cache."""
        cos, sin = self.rotary[:, : tokens.shape[1]]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [batch, length, vocab] of whole sequences, without a cache."""
        return self.lm_head(self.hidden(tokens))  # type: ignore[no-any-return]

    @torch.inference_mode()
    def forward_paged(self, tokens: Tensor, caches: Tensor, step: StepContext) -> Tensor:
        """Logits [samples, vocab], float32, of one engine step.

        tokens is [T]; caches is [layers, slots, latent_dim] and is written in place.
        """
        cos, sin = self.rotary[:, step.positions]
        x = self.embed_tokens(tokens)
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer.forward_paged(x, cos, sin, cache, step)  # type: ignore[operator]
        return self.lm_head(self.norm(x[step.sample_rows])).float()  # type: ignore[no-any-return]
