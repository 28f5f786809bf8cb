"""Description of a network: everything that a backend needs besides the weights.

One description covers every supported family (DeepSeek-V2, V3 and R1, Qwen2, Qwen3, Llama). A family
is a parser from its configuration file to a `ModelDescription`; the backends know no families.

Names follow the Hugging Face configuration fields where such a field exists. Weights have the names of
the published checkpoints without the prefix `model.` (see `weight_names.py`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding (arXiv 2104.09864) of one attention.

    Every published extension (linear, YaRN, llama3) is a table of frequencies and one factor.

    Attributes:
        dim: rotated dimensions of a head, even. GQA rotates the first `dim` of `head_dim`.
        interleaved: the pairs are (x0, x1), (x2, x3), ...; otherwise (x0, x[dim/2]), ...
        inverse_frequencies: radians per position of each pair, dim / 2 values.
        cos_sin_scale: factor on cosines and sines (YaRN's attention factor).
    """

    dim: int
    interleaved: bool
    inverse_frequencies: tuple[float, ...]
    cos_sin_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class GroupedQueryAttention:
    """Grouped-query attention (arXiv 2305.13245); `kv_heads == heads` is multi-head attention.

    Attributes:
        qkv_bias: q_proj, k_proj and v_proj have a bias (Qwen2).
        output_bias: o_proj has a bias.
        qk_norm: RMS norm over each head's query and key before the rotation (Qwen3).
        softmax_scale: factor on the scores, usually head_dim ** -0.5.
    """

    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    softmax_scale: float
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).

    Attributes:
        q_lora_rank: rank of the query projection; None for one full matrix.
        bias: q_a_proj, kv_a_proj_with_mqa and o_proj have a bias.
        inner_norm_eps: epsilon of q_a_layernorm and kv_a_layernorm.
    """

    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    v_head_dim: int
    rope: Rope
    softmax_scale: float
    bias: bool = False
    inner_norm_eps: float = 1e-6

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.rope.dim

    @property
    def latent_dim(self) -> int:
        """Values per token and layer in the cache: the latent and the shared rotary key."""
        return self.kv_lora_rank + self.rope.dim


Attention = GroupedQueryAttention | LatentAttention


@dataclass(frozen=True, slots=True)
class DenseFeedForward:
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    inner: int


class Scoring(enum.StrEnum):
    """Function from router logits to scores."""

    SIGMOID = "sigmoid"  # DeepSeek-V3
    SOFTMAX = "softmax"  # DeepSeek-V2, Qwen


class GroupScore(enum.StrEnum):
    """Score of an expert group."""

    TOP2_SUM = "top2_sum"  # DeepSeek-V3 (noaux_tc): sum of the two best experts
    MAXIMUM = "maximum"  # DeepSeek-V2 (group_limited_greedy)


@dataclass(frozen=True, slots=True)
class MixtureOfExperts:
    """Routed experts and one shared expert.

    Attributes:
        experts: routed experts.
        experts_per_token: experts that compute each token.
        inner: inner size of a routed expert.
        shared_inner: inner size of all shared experts together; 0 without one.
        correction_bias: a learned bias affects the choice of experts but not their weights.
        normalise: weights of the chosen experts are divided by their sum.
        scale: factor on the weights.
        groups: groups of experts; `top_groups` of them are eligible for a token.
        unit_weights: every chosen expert has the weight `scale`; scores affect the choice alone. The
            parts of a split dense layer then add up to that layer.
    """

    experts: int
    experts_per_token: int
    inner: int
    shared_inner: int
    scoring: Scoring
    correction_bias: bool
    normalise: bool
    scale: float
    groups: int = 1
    top_groups: int = 1
    group_score: GroupScore = GroupScore.TOP2_SUM
    unit_weights: bool = False

    @property
    def eligible(self) -> int:
        """The most experts that one token can use."""
        return self.experts // self.groups * self.top_groups


FeedForward = DenseFeedForward | MixtureOfExperts


@dataclass(frozen=True, slots=True)
class Layer:
    attention: Attention
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A decoder-only network.

    Attributes:
        family: `model_type` of the configuration, for messages.
        norm_eps: epsilon of the RMS norms of the residual stream and the final norm.
        tied_head: the output head is the embedding matrix.
        max_positions: longest sequence in tokens.
        dtype: data type of the stored weights, where the configuration names one.
        draft_layer: the layer that predicts the token after the next one (DeepSeek-V3's multi-token
            prediction, arXiv 2412.19437, section 2.2); its weights are `layers.N` with N layers
            before it. It is no part of the network, and a checkpoint may lack its weights.
    """

    family: str
    vocab_size: int
    hidden_size: int
    norm_eps: float
    layers: tuple[Layer, ...]
    tied_head: bool
    max_positions: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str | None = None
    draft_layer: Layer | None = None

    def parameter_count(self) -> int:
        """Number of parameters, without norms and biases."""
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_head else 2)
        return embeddings + sum(
            _attention_parameters(layer.attention, self.hidden_size)
            + _feed_forward_parameters(layer.feed_forward, self.hidden_size)
            for layer in self.layers
        )

    def cache_values_per_token(self) -> int:
        """Values that one token keeps in the caches of all layers."""
        return sum(
            attention.latent_dim
            if isinstance(attention, LatentAttention)
            else 2 * attention.kv_heads * attention.head_dim
            for attention in (layer.attention for layer in self.layers)
        )


def _attention_parameters(attention: Attention, hidden: int) -> int:
    if isinstance(attention, GroupedQueryAttention):
        return 2 * hidden * (attention.heads + attention.kv_heads) * attention.head_dim
    rank = attention.q_lora_rank
    query = attention.heads * attention.qk_head_dim
    per_head = attention.qk_nope_head_dim + attention.v_head_dim
    return (
        (hidden * query if rank is None else rank * (hidden + query))
        + hidden * attention.latent_dim
        + attention.kv_lora_rank * attention.heads * per_head
        + attention.heads * attention.v_head_dim * hidden
    )


def _feed_forward_parameters(feed_forward: FeedForward, hidden: int) -> int:
    if isinstance(feed_forward, DenseFeedForward):
        return 3 * hidden * feed_forward.inner
    routed = 3 * feed_forward.inner * feed_forward.experts
    return hidden * (routed + 3 * feed_forward.shared_inner + feed_forward.experts)
