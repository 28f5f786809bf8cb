"""Initial weights, and the shape of the demo model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from r1_runtime.architecture.families import describe
from r1_runtime.backends.reference.network import Network
from r1_runtime.training.tokenizer import BEGIN_ID, END_ID

DEMO_CONFIG: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 4096,
    "hidden_size": 256,
    "intermediate_size": 704,
    "moe_intermediate_size": 224,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_group": 4,
    "topk_group": 2,
    "first_k_dense_replace": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "moe_layer_freq": 1,
    "num_nextn_predict_layers": 0,
    "hidden_act": "silu",
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_interleave": True,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "bos_token_id": BEGIN_ID,
    "eos_token_id": END_ID,
    "pad_token_id": END_ID,
    "use_cache": True,
    "torch_dtype": "bfloat16",
}


def initial_model(config: Mapping[str, Any], seed: int) -> Network:
    """A float32 model with normal weights; layers that write to the residual stream start smaller.

    Args:
        config: the fields of config.json.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    model = Network(describe(config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif parameter.dim() == 1:
                parameter.zero_()
            else:
                deviation = config["initializer_range"]
                if "o_proj" in name or "down_proj" in name:
                    deviation /= (2 * config["num_hidden_layers"]) ** 0.5
                parameter.normal_(0.0, deviation, generator=generator)
    return model


def demo_model(seed: int = 0) -> Network:
    return initial_model(DEMO_CONFIG, seed)
