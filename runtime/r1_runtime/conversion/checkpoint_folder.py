"""Writes a split model as an ordinary checkpoint folder: weights, config.json and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    ModelDescription,
)
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.conversion.neuron_groups import NeuronGroups
from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.definition import TokenizerDefinition


@dataclass(frozen=True, slots=True)
class SplitLayer:
    """The division of one layer, and the router's weights [experts, hidden]."""

    groups: NeuronGroups
    router: Tensor


def check_source(description: ModelDescription, where: object) -> int:
    """The neurons of a feed-forward layer.

    Raises:
        ModelLoadError: the model is not a Llama with dense layers and a plain rotary embedding.
    """
    attention, feed_forward = description.layers[0].attention, description.layers[0].feed_forward
    if (
        not isinstance(attention, GroupedQueryAttention)
        or not isinstance(feed_forward, DenseFeedForward)
        or attention.qk_norm
        or attention.qkv_bias != attention.output_bias
        or any(layer != description.layers[0] for layer in description.layers)
    ):
        raise ModelLoadError(
            where,
            f"a {description.family} model cannot be split.",
            "choose a Llama with dense layers.",
        )
    _rope_theta(attention, where)
    return feed_forward.inner


def split_config(
    description: ModelDescription, shared: int, experts: int, where: object = "model"
) -> dict[str, Any]:
    """config.json of a split model; all experts run unless the server chooses fewer."""
    attention = description.layers[0].attention
    neurons = check_source(description, where)
    assert isinstance(attention, GroupedQueryAttention)  # noqa: S101
    return {
        "architectures": ["R1SplitLlamaForCausalLM"],
        "model_type": "r1_split_llama",
        "vocab_size": description.vocab_size,
        "hidden_size": description.hidden_size,
        "num_hidden_layers": len(description.layers),
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "attention_bias": attention.qkv_bias,
        "num_experts": experts,
        "num_experts_per_tok": experts,
        "moe_intermediate_size": (neurons - shared) // experts,
        "shared_expert_intermediate_size": shared,
        "hidden_act": "silu",
        "rms_norm_eps": description.norm_eps,
        "rope_theta": _rope_theta(attention, where),
        "max_position_embeddings": description.max_positions,
        "tie_word_embeddings": description.tied_head,
        "bos_token_id": description.bos_token_id,
        "eos_token_id": list(description.eos_token_ids),
    }


def split_tensors(
    checkpoint: Checkpoint, layers: Sequence[SplitLayer], dtype: torch.dtype
) -> dict[str, Tensor]:
    """All tensors by their published names; routers stay float32."""
    tensors: dict[str, Tensor] = {}

    def put(name: str, value: Tensor, kind: torch.dtype = dtype) -> None:
        stored = name if name == "lm_head.weight" else f"model.{name}"
        tensors[stored] = value.to(kind).contiguous().clone()

    def values(name: str) -> Tensor:
        stored = checkpoint.tensor(name)
        decoded = torch.from_numpy(decode(stored))
        checkpoint.release(stored)
        return decoded

    for name in sorted(checkpoint.names()):
        if ".mlp." not in name:
            put(name, values(name))
    for index, layer in enumerate(layers):
        prefix = f"layers.{index}.mlp."
        put(prefix + "gate.weight", layer.router, torch.float32)
        parts = {f"experts.{number}.": rows for number, rows in enumerate(layer.groups.experts)}
        if len(layer.groups.shared):
            parts["shared_experts."] = layer.groups.shared
        for kind in ("gate", "up", "down"):
            matrix = values(f"{prefix}{kind}_proj.weight")
            for part, rows in parts.items():
                taken = matrix[:, rows] if kind == "down" else matrix[rows]
                put(f"{prefix}{part}{kind}_proj.weight", taken)
    return tensors


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer: TokenizerDefinition,
    record: Mapping[str, Any],
) -> None:
    """Write the checkpoint, and `conversion.json` with how it was made. config.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model.safetensors"
    partial = folder / "model.safetensors.partial"
    save_file(dict(tensors), partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # save_file makes it private, and a pod reads it as another user
    partial.rename(weights)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.adds_begin,
        "model_max_length": config["max_position_embeddings"],
        **{name: text for name, text in tokenizer.special_texts.items() if text},
    }
    if tokenizer.chat_template is not None:
        settings["chat_template"] = tokenizer.chat_template
    _write_json(folder / "tokenizer.json", tokenizer.raw)
    _write_json(folder / "tokenizer_config.json", settings)
    _write_json(folder / "conversion.json", record)
    ends = sorted({*config["eos_token_id"], *tokenizer.end_ids})
    _write_json(folder / "config.json", {**config, "eos_token_id": ends})


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _rope_theta(attention: GroupedQueryAttention, where: object) -> float:
    """The base of a plain rotary embedding."""
    rope = attention.rope
    frequencies = np.array(rope.inverse_frequencies)
    theta = round(float(frequencies[1]) ** (-rope.dim / 2), 3) if len(frequencies) > 1 else 1e4
    plain = theta ** -(np.arange(0, rope.dim, 2) / rope.dim)
    if (
        rope.interleaved
        or rope.cos_sin_scale != 1
        or not np.allclose(plain, frequencies, rtol=1e-5)
    ):
        raise ModelLoadError(
            where, "its rotary embedding is scaled.", "choose a model without rope_scaling."
        )
    return theta
