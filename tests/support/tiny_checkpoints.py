"""Tiny checkpoints with random weights, one function per family, written by `transformers`.

Each function writes config.json, model.safetensors and a tokenizer to a folder, and returns the model
of `transformers` (float32, in evaluation mode) with the same weights: the oracle. Keyword arguments
change fields of the configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from r1_runtime.training.tokenizer import BEGIN_ID, END_ID, train_tokenizer, write_tokenizer

VOCABULARY = 288
MAX_POSITIONS = 256
_TEXT = ("The gateway holds a request until a replica is ready.", "Naïve café — 東京, Привет, 🙂.")
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": MAX_POSITIONS,
    "initializer_range": 0.25,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_size": 48,
    "intermediate_size": 80,
    "bos_token_id": BEGIN_ID,
    "eos_token_id": END_ID,
    "pad_token_id": END_ID,
}
_GROUPED: dict[str, Any] = {"num_key_value_heads": 2}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 1,
}
YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
}


def write_deepseek_v3(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Sigmoid router with a correction bias, two of four groups, a shared expert, a dense layer."""
    grouped = {"n_group": 4, "topk_group": 2, "num_nextn_predict_layers": 0}
    return _write("DeepseekV3", folder, seed, _LATENT | grouped | changes)


def write_deepseek_v32(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """V3 with an indexer that selects as many positions as there are."""
    indexer = {"index_topk": MAX_POSITIONS, "index_n_heads": 2, "index_head_dim": 16}
    grouped = {"n_group": 4, "topk_group": 2}
    return _write("DeepseekV32", folder, seed, _LATENT | grouped | indexer | changes)


def write_deepseek_v2(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Softmax router with groups by their best expert."""
    routing = {"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}
    routing |= {"n_shared_experts": 2, "routed_scaling_factor": 4.0}
    return _write("DeepseekV2", folder, seed, _LATENT | routing | changes)


def write_deepseek_v2_lite(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Softmax router without groups, one full query matrix, YaRN."""
    lite: dict[str, Any] = {
        "q_lora_rank": None,
        "topk_method": "greedy",
        "routed_scaling_factor": 1.0,
    }
    lite |= {"n_group": 1, "topk_group": 1}
    lite |= {"rope_parameters": YARN | {"factor": 40.0, "mscale": 0.707, "mscale_all_dim": 0.707}}
    return write_deepseek_v2(folder, seed, **lite | changes)


def write_llama(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Llama 3.1's rotary scaling, two key-value heads for four heads."""
    rope: dict[str, Any] = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 64}
    return _write("Llama", folder, seed, _GROUPED | {"rope_parameters": rope} | changes)


def write_mistral(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """No sliding window."""
    return _write("Mistral", folder, seed, _GROUPED | {"sliding_window": None} | changes)


def write_qwen2(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Biases on query, key and value."""
    return _write("Qwen2", folder, seed, _GROUPED | changes)


def write_qwen3(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Norms of query and key, heads wider than hidden / heads, a tied output head."""
    return _write(
        "Qwen3", folder, seed, _GROUPED | {"head_dim": 16, "tie_word_embeddings": True} | changes
    )


def write_qwen3_moe(folder: Path, seed: int = 0, **changes: Any) -> Any:
    """Softmax router without groups, normalised weights, no shared expert, no dense layer."""
    experts = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24}
    experts |= {"norm_topk_prob": True, "head_dim": 16}
    return _write("Qwen3Moe", folder, seed, _GROUPED | experts | changes)


def _write(architecture: str, folder: Path, seed: int, fields: dict[str, Any]) -> Any:
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{architecture}Config")(**_COMMON | fields)
    config._experts_implementation = "eager"  # its grouped kernel needs even sizes
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("norm.weight"):
                value.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                value.normal_(0, 0.2)
            elif name.endswith("gate.weight"):
                value.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer = train_tokenizer(_TEXT, config.vocab_size)
    write_tokenizer(tokenizer, folder, config.max_position_embeddings)
    return model


def quantize_to_fp8(folder: Path) -> dict[str, torch.Tensor]:
    """Rewrite a checkpoint as DeepSeek publishes V3: FP8 projections with factors per 128 x 128.

    Returns the values of all tensors after the loss of precision, float32, by published name.
    """
    stored: dict[str, torch.Tensor] = {}
    values: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if not name.endswith("_proj.weight") and "kv_a_proj" not in name:
            stored[name] = values[name] = weight
            continue
        scale = _block_factors(weight)
        wide = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
        wide = wide[: weight.shape[0], : weight.shape[1]]
        stored[name] = (weight / wide).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = scale
        values[name] = stored[name].float() * wide
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    quantization = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    _change_config(folder, folder, quantization_config=quantization)
    return values


def with_weights(folder: Path, values: dict[str, torch.Tensor]) -> Any:
    """The model of `transformers` for a checkpoint's configuration with other weights, float32."""
    import transformers

    target = folder / "float32"
    target.mkdir()
    _change_config(folder, target, quantization_config=None)
    save_file(values, target / "model.safetensors", metadata={"format": "pt"})
    model = transformers.AutoModelForCausalLM.from_pretrained(
        target, dtype=torch.float32, experts_implementation="eager"
    )
    return model.eval()


def _change_config(source: Path, target: Path, **changes: Any) -> None:
    raw = json.loads((source / "config.json").read_text()) | changes
    text = json.dumps({name: value for name, value in raw.items() if value is not None})
    (target / "config.json").write_text(text)


def _block_factors(weight: torch.Tensor) -> torch.Tensor:
    """Largest magnitude of each block divided by the largest FP8 value, 448."""
    rows, columns = (range(0, size, 128) for size in weight.shape)
    largest = [[weight[r : r + 128, c : c + 128].abs().max() for c in columns] for r in rows]
    return torch.stack([torch.stack(row) for row in largest]) / 448


def write_deepseek_v3_with_drafts(folder: Path) -> Path:
    """A tiny DeepSeek-V3 whose last layer is published as the draft layer."""
    write_deepseek_v3(folder)
    config = json.loads((folder / "config.json").read_text())
    last = config["num_hidden_layers"] - 1
    config |= {"num_hidden_layers": last, "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    prefix = f"model.layers.{last}."
    hidden = config["hidden_size"]
    ones = torch.ones(hidden)
    for name in ("enorm", "hnorm", "shared_head.norm"):
        weights[f"{prefix}{name}.weight"] = ones.clone()
    weights[prefix + "eh_proj.weight"] = torch.eye(hidden, 2 * hidden)
    weights[prefix + "embed_tokens.weight"] = weights["model.embed_tokens.weight"].clone()
    weights[prefix + "shared_head.head.weight"] = weights["lm_head.weight"].clone()
    save_file(weights, folder / "model.safetensors")
    return folder
