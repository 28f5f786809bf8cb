"""Names and shapes of all weights of a network.

Names are those of the published Hugging Face checkpoints without the prefix `model.`, one matrix per
expert. A matrix is (outputs, inputs).
"""

from __future__ import annotations

from collections.abc import Iterator

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
)

Shape = tuple[int, ...]


def weight_shapes(description: ModelDescription) -> dict[str, Shape]:
    """Shape of each weight by its name."""
    vocab, hidden = description.vocab_size, description.hidden_size
    shapes: dict[str, Shape] = {"embed_tokens.weight": (vocab, hidden), "norm.weight": (hidden,)}
    if not description.tied_head:
        shapes["lm_head.weight"] = (vocab, hidden)
    for index, layer in enumerate(description.layers):
        prefix = f"layers.{index}."
        shapes |= {prefix + name: shape for name, shape in _layer(layer, hidden)}
    return shapes


def draft_weight_shapes(description: ModelDescription) -> dict[str, Shape]:
    """Shape of each weight of the layer that drafts a token; empty without one."""
    layer, hidden = description.draft_layer, description.hidden_size
    if layer is None:
        return {}
    prefix = f"layers.{len(description.layers)}."
    shapes: dict[str, Shape] = {
        "enorm.weight": (hidden,),
        "hnorm.weight": (hidden,),
        "eh_proj.weight": (hidden, 2 * hidden),
        "shared_head.norm.weight": (hidden,),
    }
    return {prefix + name: shape for name, shape in (shapes | dict(_layer(layer, hidden))).items()}


def _layer(layer: Layer, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)
    if isinstance(layer.attention, GroupedQueryAttention):
        yield from _grouped_query(layer.attention, hidden)
    else:
        yield from _latent(layer.attention, hidden)
    if isinstance(layer.feed_forward, DenseFeedForward):
        yield from _dense("mlp.", hidden, layer.feed_forward.inner)
    else:
        yield from _experts(layer.feed_forward, hidden)


def _grouped_query(attention: GroupedQueryAttention, hidden: int) -> Iterator[tuple[str, Shape]]:
    queries = attention.heads * attention.head_dim
    keys = attention.kv_heads * attention.head_dim
    for name, outputs in (("q", queries), ("k", keys), ("v", keys)):
        yield f"self_attn.{name}_proj.weight", (outputs, hidden)
        if attention.qkv_bias:
            yield f"self_attn.{name}_proj.bias", (outputs,)
    yield "self_attn.o_proj.weight", (hidden, queries)
    if attention.output_bias:
        yield "self_attn.o_proj.bias", (hidden,)
    if attention.qk_norm:
        yield "self_attn.q_norm.weight", (attention.head_dim,)
        yield "self_attn.k_norm.weight", (attention.head_dim,)


def _latent(attention: LatentAttention, hidden: int) -> Iterator[tuple[str, Shape]]:
    queries, rank = attention.heads * attention.qk_head_dim, attention.q_lora_rank
    biased = {"kv_a_proj_with_mqa": attention.latent_dim, "o_proj": hidden}
    if rank is None:
        yield "self_attn.q_proj.weight", (queries, hidden)
    else:
        yield "self_attn.q_a_proj.weight", (rank, hidden)
        yield "self_attn.q_a_layernorm.weight", (rank,)
        yield "self_attn.q_b_proj.weight", (queries, rank)
        biased["q_a_proj"] = rank
    per_head = attention.qk_nope_head_dim + attention.v_head_dim
    yield "self_attn.kv_a_proj_with_mqa.weight", (attention.latent_dim, hidden)
    yield "self_attn.kv_a_layernorm.weight", (attention.kv_lora_rank,)
    yield (
        "self_attn.kv_b_proj.weight",
        (
            attention.heads * per_head,
            attention.kv_lora_rank,
        ),
    )
    yield "self_attn.o_proj.weight", (hidden, attention.heads * attention.v_head_dim)
    if attention.bias:
        for name, outputs in biased.items():
            yield f"self_attn.{name}.bias", (outputs,)


def _dense(prefix: str, hidden: int, inner: int) -> Iterator[tuple[str, Shape]]:
    yield prefix + "gate_proj.weight", (inner, hidden)
    yield prefix + "up_proj.weight", (inner, hidden)
    yield prefix + "down_proj.weight", (hidden, inner)


def _experts(experts: MixtureOfExperts, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield "mlp.gate.weight", (experts.experts, hidden)
    if experts.correction_bias:
        yield "mlp.gate.e_score_correction_bias", (experts.experts,)
    for index in range(experts.experts):
        yield from _dense(f"mlp.experts.{index}.", hidden, experts.inner)
    if experts.shared_inner:
        yield from _dense("mlp.shared_experts.", hidden, experts.shared_inner)
