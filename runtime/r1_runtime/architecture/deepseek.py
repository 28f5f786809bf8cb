"""DeepSeek-V2, V2-Lite, V3, R1 and V3.2: latent attention, dense layers first, then experts.

V2 is arXiv 2405.04434, V3 is arXiv 2412.19437. Of the layers of V3 that predict further tokens (MTP),
the first one is described as `draft_layer`.
"""

from __future__ import annotations

from r1_runtime.architecture.common_fields import check_common_fields
from r1_runtime.architecture.description import (
    DenseFeedForward,
    FeedForward,
    GroupScore,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
    Scoring,
)
from r1_runtime.architecture.fields import ConfigFields
from r1_runtime.architecture.rope import parse_rope


def describe_deepseek_v3(fields: ConfigFields) -> ModelDescription:
    """DeepSeek-V3 and R1: sigmoid scores, a correction bias, groups by the sum of their best two."""
    fields.only("scoring_func", "sigmoid")
    fields.only("topk_method", "noaux_tc")
    experts = MixtureOfExperts(
        experts=fields.count("n_routed_experts"),
        experts_per_token=fields.count("num_experts_per_tok"),
        inner=fields.count("moe_intermediate_size"),
        shared_inner=_shared_inner(fields),
        scoring=Scoring.SIGMOID,
        correction_bias=True,
        normalise=fields.flag("norm_topk_prob", True),
        scale=fields.number("routed_scaling_factor", 1.0),
        groups=fields.count("n_group", 1),
        top_groups=fields.count("topk_group", 1),
        group_score=GroupScore.TOP2_SUM,
    )
    return _describe(fields, experts, interleaved=fields.flag("rope_interleave", True))


def describe_deepseek_v32(fields: ConfigFields) -> ModelDescription:
    """DeepSeek-V3.2 for sequences of at most `index_topk` tokens, where it is V3.

    Its indexer selects `index_topk` positions for each token: all of them in shorter sequences.
    """
    selected, positions = fields.count("index_topk"), fields.max_positions()
    if selected < positions:
        raise fields.error(
            f"index_topk is {selected}, less than the {positions} positions, and sparse attention"
            " is not implemented.",
            f"use --max-model-len {selected} or less, which computes the same, or use vLLM.",
        )
    layers = fields.count("num_hidden_layers")
    dense = min(fields.count("first_k_dense_replace", 3, least=0), layers)
    fields.only("mlp_layer_types", ["dense"] * dense + ["sparse"] * (layers - dense))
    fields.only("layer_types", ["indexed_attention"] * layers)
    return describe_deepseek_v3(fields.without("index_", "layer_types", "mlp_layer_types"))


def describe_deepseek_v2(fields: ConfigFields) -> ModelDescription:
    """DeepSeek-V2 and V2-Lite: softmax scores, groups by their best expert or no groups."""
    fields.only("scoring_func", "softmax")
    # Published implementations differ on whether normalised weights are scaled too.
    fields.only("norm_topk_prob", False)
    fields.only("mlp_bias", False)
    method = fields.get("topk_method") or "greedy"
    if method not in ("greedy", "group_limited_greedy"):
        raise fields.error(
            f"topk_method is {method!r}, which is not implemented.",
            "use 'greedy' or 'group_limited_greedy'.",
        )
    grouped = method == "group_limited_greedy"
    experts = MixtureOfExperts(
        experts=fields.count("n_routed_experts"),
        experts_per_token=fields.count("num_experts_per_tok"),
        inner=fields.count("moe_intermediate_size"),
        shared_inner=_shared_inner(fields),
        scoring=Scoring.SOFTMAX,
        correction_bias=False,
        normalise=False,
        scale=fields.number("routed_scaling_factor", 1.0),
        groups=fields.count("n_group") if grouped else 1,
        top_groups=fields.count("topk_group") if grouped else 1,
        group_score=GroupScore.MAXIMUM,
    )
    return _describe(fields, experts, interleaved=True)


def _shared_inner(fields: ConfigFields) -> int:
    return fields.count("n_shared_experts", 0, least=0) * fields.count("moe_intermediate_size")


def _describe(
    fields: ConfigFields, experts: MixtureOfExperts, *, interleaved: bool
) -> ModelDescription:
    check_common_fields(fields)
    fields.only("moe_layer_freq", 1)
    _check_routing(fields, experts)
    attention = _attention(fields, interleaved)
    layers = fields.count("num_hidden_layers")
    dense = DenseFeedForward(fields.count("intermediate_size"))
    first_sparse = fields.count("first_k_dense_replace", 0, least=0)

    def feed_forward(index: int) -> FeedForward:
        return experts if index >= first_sparse else dense

    return ModelDescription(
        family=fields.family,
        vocab_size=fields.count("vocab_size"),
        hidden_size=fields.count("hidden_size"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        layers=tuple(Layer(attention, feed_forward(index)) for index in range(layers)),
        tied_head=fields.flag("tie_word_embeddings", False),
        max_positions=fields.max_positions(),
        bos_token_id=fields.token_id("bos_token_id"),
        eos_token_ids=fields.token_ids("eos_token_id"),
        dtype=fields.dtype(),
        draft_layer=Layer(attention, feed_forward(layers))
        if fields.count("num_nextn_predict_layers", 0, least=0)
        else None,
    )


def _attention(fields: ConfigFields, interleaved: bool) -> LatentAttention:
    rope_dim = fields.count("qk_rope_head_dim")
    if rope_dim % 2:
        raise fields.error(f"qk_rope_head_dim {rope_dim} is not even.", "use an even number.")
    rope, softmax_factor = parse_rope(fields, rope_dim, interleaved=interleaved)
    nope_dim = fields.count("qk_nope_head_dim")
    return LatentAttention(
        heads=fields.count("num_attention_heads"),
        q_lora_rank=fields.optional_count("q_lora_rank"),
        kv_lora_rank=fields.count("kv_lora_rank"),
        qk_nope_head_dim=nope_dim,
        v_head_dim=fields.count("v_head_dim"),
        rope=rope,
        softmax_scale=(nope_dim + rope_dim) ** -0.5 * softmax_factor,
        bias=fields.flag("attention_bias", False),
        # The inner norms keep 1e-6 whatever rms_norm_eps is, as in the published code.
        inner_norm_eps=1e-6,
    )


def _check_routing(fields: ConfigFields, experts: MixtureOfExperts) -> None:
    count, groups = experts.experts, experts.groups
    if count % groups:
        raise fields.error(
            f"n_routed_experts {count} is not a multiple of n_group {groups}.", "correct one."
        )
    if experts.group_score is GroupScore.TOP2_SUM and count // groups < 2:
        raise fields.error("groups have fewer than 2 experts.", "lower n_group.")
    if experts.top_groups > groups:
        raise fields.error(
            f"topk_group {experts.top_groups} is above n_group {groups}.", "lower topk_group."
        )
    if experts.experts_per_token > count // groups * experts.top_groups:
        raise fields.error(
            f"num_experts_per_tok {experts.experts_per_token} is above the number of experts in"
            f" topk_group {experts.top_groups} groups.",
            "lower it.",
        )
