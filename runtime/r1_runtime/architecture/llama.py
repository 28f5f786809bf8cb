"""Llama, Mistral, Qwen2, Qwen3 and split Llama: grouped-query attention, and dense layers or experts.

The distillations of R1 are of these families. They differ in biases and in norms of query and key.
"""

from __future__ import annotations

from r1_runtime.architecture.common_fields import check_common_fields
from r1_runtime.architecture.description import (
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
    Scoring,
)
from r1_runtime.architecture.fields import ConfigFields
from r1_runtime.architecture.rope import parse_rope


def describe_llama(fields: ConfigFields) -> ModelDescription:
    """Llama 2 and 3: biases where `attention_bias` is set, on all four projections."""
    fields.only("mlp_bias", False)
    bias = fields.flag("attention_bias", False)
    return _describe(fields, qkv_bias=bias, output_bias=bias)


def describe_mistral(fields: ConfigFields) -> ModelDescription:
    """Mistral: Llama without biases. A sliding window is accepted where no sequence exceeds it."""
    return _describe(fields)


def describe_qwen2(fields: ConfigFields) -> ModelDescription:
    """Qwen2 and 2.5: biases on query, key and value."""
    return _describe(fields, qkv_bias=True)


def describe_qwen3(fields: ConfigFields) -> ModelDescription:
    """Qwen3: an RMS norm on each head's query and key; head_dim is a field of its own."""
    bias = fields.flag("attention_bias", False)
    return _describe(fields, qkv_bias=bias, output_bias=bias, qk_norm=True)


def describe_qwen3_moe(fields: ConfigFields) -> ModelDescription:
    """Qwen3's mixtures of experts: softmax scores, no groups, no shared expert."""
    bias = fields.flag("attention_bias", False)
    # `transformers` 5 saves the second name.
    count = "num_experts" if fields.get("num_experts") is not None else "num_local_experts"
    experts = MixtureOfExperts(
        experts=fields.count(count),
        experts_per_token=fields.count("num_experts_per_tok"),
        inner=fields.count("moe_intermediate_size"),
        shared_inner=0,
        scoring=Scoring.SOFTMAX,
        correction_bias=False,
        normalise=fields.flag("norm_topk_prob", False),
        scale=1.0,
    )
    _check_count(fields, experts, count)
    fields.only("decoder_sparse_step", 1)
    fields.only("mlp_only_layers", [])
    return _describe(fields, experts, qkv_bias=bias, output_bias=bias, qk_norm=True)


def describe_split_llama(fields: ConfigFields) -> ModelDescription:
    """Llama whose feed-forward layers were split into a shared part and experts.

    Written by `r1_runtime.conversion.mixture`. The router only chooses: each chosen expert has weight
    1, so that the layer is the dense one while all experts run.
    """
    experts = MixtureOfExperts(
        experts=fields.count("num_experts"),
        experts_per_token=fields.count("num_experts_per_tok"),
        inner=fields.count("moe_intermediate_size"),
        shared_inner=fields.count("shared_expert_intermediate_size", 0, least=0),
        scoring=Scoring.SOFTMAX,
        correction_bias=False,
        normalise=False,
        scale=1.0,
        unit_weights=True,
    )
    _check_count(fields, experts, "num_experts")
    return _describe(fields, experts)


def _check_count(fields: ConfigFields, experts: MixtureOfExperts, name: str) -> None:
    if experts.experts_per_token > experts.experts:
        raise fields.error(
            f"num_experts_per_tok {experts.experts_per_token} is above {name} {experts.experts}.",
            "lower it.",
        )


def _describe(
    fields: ConfigFields,
    feed_forward: FeedForward | None = None,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
) -> ModelDescription:
    check_common_fields(fields)
    hidden = fields.count("hidden_size")
    attention = _attention(fields, hidden, qkv_bias, output_bias, qk_norm)
    layer = Layer(attention, feed_forward or DenseFeedForward(fields.count("intermediate_size")))
    return ModelDescription(
        family=fields.family,
        vocab_size=fields.count("vocab_size"),
        hidden_size=hidden,
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        layers=(layer,) * fields.count("num_hidden_layers"),
        tied_head=fields.flag("tie_word_embeddings", False),
        max_positions=fields.max_positions(),
        bos_token_id=fields.token_id("bos_token_id"),
        eos_token_ids=fields.token_ids("eos_token_id"),
        dtype=fields.dtype(),
    )


def _attention(
    fields: ConfigFields, hidden: int, qkv_bias: bool, output_bias: bool, qk_norm: bool
) -> GroupedQueryAttention:
    heads = fields.count("num_attention_heads")
    kv_heads = fields.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.error(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}.",
            "correct one.",
        )
    head_dim = fields.count("head_dim", hidden // heads)
    if head_dim % 2:
        raise fields.error(f"head_dim {head_dim} is not even.", "use an even number.")
    rope, _ = parse_rope(fields, head_dim, interleaved=False)
    return GroupedQueryAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rope=rope,
        softmax_scale=head_dim**-0.5,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=qk_norm,
    )
