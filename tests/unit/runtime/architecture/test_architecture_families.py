"""From published configurations to descriptions, and the refusal of what is not implemented."""

from __future__ import annotations

import math
from typing import Any

import pytest

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    GroupScore,
    LatentAttention,
    MixtureOfExperts,
    ModelDescription,
    Scoring,
)
from r1_runtime.architecture.families import describe
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.errors import ModelLoadError

# Fields of the published config.json files, without those that nothing reads.
DEEPSEEK_R1: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "attention_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
DEEPSEEK_V2_LITE: dict[str, Any] = DEEPSEEK_R1 | {
    "architectures": ["DeepseekV2ForCausalLM"],
    "model_type": "deepseek_v2",
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "norm_topk_prob": False,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "q_lora_rank": None,
    "quantization_config": None,
    "rope_scaling": DEEPSEEK_R1["rope_scaling"] | {"mscale": 0.707, "mscale_all_dim": 0.707},
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "topk_group": 1,
    "topk_method": "greedy",
    "vocab_size": 102400,
}
R1_DISTILL_QWEN_1_5B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "max_position_embeddings": 131072,
    "max_window_layers": 21,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_mrope": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
R1_DISTILL_LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
QWEN3_0_6B: dict[str, Any] = R1_DISTILL_QWEN_1_5B | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "head_dim": 128,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
}
MISTRAL_7B: dict[str, Any] = R1_DISTILL_LLAMA_8B | {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "max_position_embeddings": 32768,
    "rope_scaling": None,
    "sliding_window": None,
    "vocab_size": 32768,
}
QWEN3_30B_A3B: dict[str, Any] = QWEN3_0_6B | {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "hidden_size": 2048,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
DEEPSEEK_V32: dict[str, Any] = DEEPSEEK_R1 | {
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
}
PUBLISHED = {
    "deepseek_v3": DEEPSEEK_R1,
    "deepseek_v2": DEEPSEEK_V2_LITE,
    "qwen2": R1_DISTILL_QWEN_1_5B,
    "qwen3": QWEN3_0_6B,
    "llama": R1_DISTILL_LLAMA_8B,
    "mistral": MISTRAL_7B,
    "qwen3_moe": QWEN3_30B_A3B,
}


def latent(description: ModelDescription) -> LatentAttention:
    attention = description.layers[0].attention
    assert isinstance(attention, LatentAttention)
    return attention


def grouped(description: ModelDescription) -> GroupedQueryAttention:
    attention = description.layers[0].attention
    assert isinstance(attention, GroupedQueryAttention)
    return attention


def test_published_deepseek_r1_is_described() -> None:
    description = describe(DEEPSEEK_R1)
    attention, experts = latent(description), description.layers[3].feed_forward
    mscale = 0.1 * math.log(40) + 1
    assert attention.softmax_scale == pytest.approx(192**-0.5 * mscale**2)
    assert (attention.rope.cos_sin_scale, attention.rope.interleaved) == (1.0, True)
    assert description.layers[2].feed_forward == DenseFeedForward(18432)
    assert experts == MixtureOfExperts(
        experts=256,
        experts_per_token=8,
        inner=2048,
        shared_inner=2048,
        scoring=Scoring.SIGMOID,
        correction_bias=True,
        normalise=True,
        scale=2.5,
        groups=8,
        top_groups=4,
        group_score=GroupScore.TOP2_SUM,
    )
    assert (len(description.layers), description.max_positions) == (61, 163840)
    assert (description.family, description.dtype) == ("deepseek_v3", "bfloat16")
    assert 670e9 < description.parameter_count() < 672e9
    assert len(weight_shapes(description)) > 58 * 256 * 3


def test_published_deepseek_v2_lite_is_described() -> None:
    description = describe(DEEPSEEK_V2_LITE)
    experts = description.layers[1].feed_forward
    assert latent(description).q_lora_rank is None
    assert experts == MixtureOfExperts(
        experts=64,
        experts_per_token=6,
        inner=1408,
        shared_inner=2 * 1408,
        scoring=Scoring.SOFTMAX,
        correction_bias=False,
        normalise=False,
        scale=1.0,
        group_score=GroupScore.MAXIMUM,
    )
    assert 15.5e9 < description.parameter_count() < 16e9


def test_published_distillations_and_their_bases_are_described() -> None:
    qwen2, qwen3 = describe(R1_DISTILL_QWEN_1_5B), describe(QWEN3_0_6B)
    llama, mistral = describe(R1_DISTILL_LLAMA_8B), describe(MISTRAL_7B)
    assert (grouped(qwen2).qkv_bias, grouped(qwen2).output_bias) == (True, False)
    assert (grouped(qwen3).qk_norm, grouped(qwen3).head_dim, qwen3.tied_head) == (True, 128, True)
    assert (grouped(llama).kv_heads, llama.eos_token_ids) == (8, (128001, 128008, 128009))
    assert not grouped(mistral).qkv_bias
    assert 1.7e9 < qwen2.parameter_count() < 1.8e9
    assert 8.0e9 < llama.parameter_count() < 8.1e9
    assert 0.55e9 < qwen3.parameter_count() < 0.65e9


@pytest.mark.parametrize("family", PUBLISHED)
def test_both_spellings_give_the_same_description(family: str) -> None:
    new = dict(PUBLISHED[family])
    scaling = new.pop("rope_scaling", None) or {"rope_type": "default"}
    new["rope_parameters"] = {**scaling, "rope_theta": new.pop("rope_theta")}
    new["dtype"] = new.pop("torch_dtype")
    # `transformers` 5 does not save these of DeepSeek-V3.
    if family == "deepseek_v3":
        for name in ("scoring_func", "topk_method", "moe_layer_freq"):
            del new[name]
    if family == "qwen3_moe":
        new["num_local_experts"] = new.pop("num_experts")
    assert describe(new) == describe(PUBLISHED[family])


@pytest.mark.parametrize("family", PUBLISHED)
@pytest.mark.parametrize("missing", ["architectures", "model_type"])
def test_model_type_or_architectures_suffices(family: str, missing: str) -> None:
    raw = {name: value for name, value in PUBLISHED[family].items() if name != missing}
    assert describe(raw) == describe(PUBLISHED[family])


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("deepseek_v3", {"model_type": "deepseek_v32"}, "model_type is 'deepseek_v32'"),
    (
        "deepseek_v3",
        {"architectures": ["DeepseekV32ForCausalLM"]},
        r"architectures is \['DeepseekV32ForCausalLM'\] and model_type is 'deepseek_v3'",
    ),
    ("deepseek_v32", {}, "index_topk is 2048, less than the 163840 positions.* 2048 or less"),
    ("deepseek_v32", {"index_topk": None}, "index_topk is missing"),
    ("qwen3_moe", {"num_experts_per_tok": 129}, "num_experts_per_tok 129 is above num_experts"),
    ("qwen3_moe", {"decoder_sparse_step": 2}, "decoder_sparse_step is 2"),
    ("qwen3_moe", {"mlp_only_layers": [3]}, r"mlp_only_layers is \[3\]"),
    ("deepseek_v3", {"model_type": "gpt_oss", "architectures": None}, "model_type is 'gpt_oss'"),
    ("deepseek_v3", {"model_type": None, "architectures": None}, "model_type is 'none'"),
    ("deepseek_v3", {"architectures": "DeepseekV3ForCausalLM"}, "architectures is 'Deep"),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "architectures is"),
    ("qwen2", {"model_type": "qwen3"}, "and model_type is 'qwen3'"),
    ("deepseek_v3", {"index_topk": 2048, "index_n_heads": 64}, "index_topk is set, but sparse"),
    ("deepseek_v3", {"use_sliding_window": True}, "use_sliding_window is set"),
    ("deepseek_v3", {"vocab_size": None}, "vocab_size is missing"),
    ("deepseek_v3", {"hidden_size": -4}, "hidden_size is -4"),
    ("deepseek_v3", {"hidden_size": "big"}, "hidden_size is 'big'"),
    ("deepseek_v3", {"hidden_size": True}, "hidden_size is True"),
    ("deepseek_v3", {"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
    ("deepseek_v3", {"norm_topk_prob": 1}, "norm_topk_prob is 1"),
    ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
    ("deepseek_v3", {"topk_method": "greedy"}, "topk_method is 'greedy'"),
    ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method is 'noaux_tc'"),
    ("deepseek_v2", {"scoring_func": "sigmoid"}, "scoring_func is 'sigmoid'"),
    ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob is True"),
    ("deepseek_v2", {"mlp_bias": True}, "mlp_bias is True"),
    ("llama", {"mlp_bias": True}, "mlp_bias is True"),
    ("qwen3", {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    ("deepseek_v3", {"moe_layer_freq": 2}, "moe_layer_freq is 2"),
    ("deepseek_v3", {"quantization_config": {"quant_method": "awq"}}, "quant_method is 'awq'"),
    ("deepseek_v3", {"quantization_config": {"quant_method": "fp8"}}, "weight_block_size is None"),
    ("qwen3", {"quantization_config": "fp8"}, "quantization_config is 'fp8'"),
    ("deepseek_v3", {"eos_token_id": "end"}, "eos_token_id is 'end'"),
    ("llama", {"bos_token_id": "begin"}, "bos_token_id is 'begin'"),
    ("deepseek_v3", {"n_group": 3}, "not a multiple of n_group"),
    ("deepseek_v3", {"n_group": 256}, "fewer than 2 experts"),
    ("deepseek_v3", {"topk_group": 9}, "topk_group 9 is above n_group 8"),
    ("deepseek_v3", {"num_experts_per_tok": 129}, "num_experts_per_tok 129 is above"),
    ("deepseek_v3", {"qk_rope_head_dim": 7}, "qk_rope_head_dim 7 is not even"),
    ("llama", {"num_key_value_heads": 5}, "not a multiple of num_key_value_heads 5"),
    ("qwen3", {"head_dim": 15}, "head_dim 15 is not even"),
    ("qwen2", {"use_sliding_window": True}, "sliding_window is 4096, less than the 131072"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": None}, "sliding_window has no value"),
    ("qwen2", {"layer_types": ["linear_attention"]}, "layer_types has 'linear_attention'"),
    ("mistral", {"sliding_window": 4096}, "Fix: use --max-model-len 4096 or less"),
]


@pytest.mark.parametrize(("family", "changes", "words"), REFUSED)
def test_configuration_that_is_not_implemented_or_malformed_names_the_field(
    family: str, changes: dict[str, Any], words: str
) -> None:
    published = PUBLISHED | {"deepseek_v32": DEEPSEEK_V32}
    with pytest.raises(ModelLoadError, match=words) as caught:
        describe(published[family] | changes)
    assert "Fix: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("deepseek_v3", {"sliding_window": None, "use_sliding_window": False}),
        ("deepseek_v3", {"index_topk": None}),
        ("qwen2", {"layer_types": ["full_attention"] * 28}),
        ("mistral", {"sliding_window": 32768}),
    ],
)
def test_disabled_mechanisms_are_accepted(family: str, changes: dict[str, Any]) -> None:
    assert describe(PUBLISHED[family] | changes) == describe(PUBLISHED[family])


def test_sliding_window_is_accepted_where_no_sequence_exceeds_it() -> None:
    windowed = MISTRAL_7B | {"sliding_window": 4096}
    assert describe(windowed, positions=4096).max_positions == 4096


def test_deepseek_v32_is_v3_where_no_sequence_exceeds_the_selected_positions() -> None:
    v3, v32 = (describe(raw, positions=2048) for raw in (DEEPSEEK_R1, DEEPSEEK_V32))
    assert v32.layers == v3.layers
    assert (v32.family, v32.max_positions) == ("deepseek_v32", 2048)


def test_published_mixture_of_qwen3_is_described() -> None:
    description = describe(QWEN3_30B_A3B)
    experts = description.layers[0].feed_forward
    assert isinstance(experts, MixtureOfExperts)
    assert (experts.experts, experts.shared_inner, experts.normalise) == (128, 0, True)
    assert 30e9 < description.parameter_count() < 31e9


def test_positions_limit_the_model_s_own_and_never_extend_them() -> None:
    assert describe(DEEPSEEK_R1, positions=100).max_positions == 100
    assert describe(DEEPSEEK_R1, positions=10**9).max_positions == 163840


def test_layers_without_shared_experts_are_described() -> None:
    experts = describe(DEEPSEEK_R1 | {"n_shared_experts": None}).layers[-1].feed_forward
    assert isinstance(experts, MixtureOfExperts)
    assert experts.shared_inner == 0
