"""`config.json` of a checkpoint with the DeepSeek-V3 architecture.

`config.json` has two forms: that of DeepSeek (`rope_theta`, `rope_scaling`, `torch_dtype`,
`scoring_func`, `topk_method`) and that of newer `transformers` (`rope_parameters`, `dtype`, no scoring
fields). Both parse to the same frozen value. A field that changes the mathematics and is not
implemented is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_runtime.errors import ModelLoadError

ARCHITECTURE = "DeepseekV3ForCausalLM"
MODEL_TYPE = "deepseek_v3"


@dataclass(frozen=True, slots=True)
class YarnConfig:
    """YaRN context extension (arXiv 2309.00071) with DeepSeek's parameters."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    attention_factor: float | None = None
    truncate: bool = True

    def cos_sin_scale(self) -> float:
        """Factor on cos and sin of the rotary embedding."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return _mscale(self.factor, self.mscale) / _mscale(self.factor, self.mscale_all_dim)
        return _mscale(self.factor, 1.0)

    def softmax_scale(self) -> float:
        """Factor on the attention scores: mscale squared, as in DeepSeek-V3 `inference/model.py`."""
        if not self.mscale_all_dim:
            return 1.0
        return _mscale(self.factor, self.mscale_all_dim) ** 2


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shape of the network; names follow `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    moe_intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    n_shared_experts: int
    n_routed_experts: int
    num_experts_per_tok: int
    n_group: int
    topk_group: int
    first_k_dense_replace: int
    norm_topk_prob: bool
    routed_scaling_factor: float
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_interleave: bool
    yarn: YarnConfig | None
    max_position_embeddings: int
    tie_word_embeddings: bool
    attention_bias: bool
    initializer_range: float
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str | None

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    @property
    def latent_dim(self) -> int:
        """Floats per token in the cache of one layer: latent plus shared rotary key."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def softmax_scale(self) -> float:
        scale = 1 / math.sqrt(self.qk_head_dim)
        return scale * self.yarn.softmax_scale() if self.yarn else scale

    def is_moe_layer(self, index: int) -> bool:
        return index >= self.first_k_dense_replace

    def parameter_count(self) -> int:
        """Number of parameters, without norms and biases."""
        heads, hidden = self.num_attention_heads, self.hidden_size
        query = (
            hidden * heads * self.qk_head_dim
            if self.q_lora_rank is None
            else self.q_lora_rank * (hidden + heads * self.qk_head_dim)
        )
        attention = (
            query
            + hidden * self.latent_dim
            + self.kv_lora_rank * heads * (self.qk_nope_head_dim + self.v_head_dim)
            + heads * self.v_head_dim * hidden
        )
        sparse = sum(self.is_moe_layer(index) for index in range(self.num_hidden_layers))
        dense = self.num_hidden_layers - sparse
        experts = self.n_routed_experts + self.n_shared_experts
        embeddings = self.vocab_size * hidden * (1 if self.tie_word_embeddings else 2)
        return (
            embeddings
            + self.num_hidden_layers * attention
            + dense * 3 * hidden * self.intermediate_size
            + sparse * hidden * (3 * self.moe_intermediate_size * experts + self.n_routed_experts)
        )


def read_config(folder: Path) -> ModelConfig:
    """Read `folder/config.json`.

    Raises:
        ModelLoadError: the file is missing, is not JSON, or describes another architecture.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelLoadError(
            folder, "no such folder.", "mount the model there, or change --model-path."
        )
    if not path.is_file():
        raise ModelLoadError(folder, "config.json is missing.", _FIX_FOLDER)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelLoadError(path, f"not readable as JSON ({error}).", "copy it again.") from error
    if not isinstance(raw, dict):
        raise ModelLoadError(path, "not a JSON object.", "copy it again.")
    return parse_config(raw, path)


_FIX_FOLDER = "point --model-path at the folder that holds config.json and the *.safetensors files."


def parse_config(raw: Mapping[str, Any], where: object = "config.json") -> ModelConfig:
    """Convert the parsed JSON to a `ModelConfig`.

    Raises:
        ModelLoadError: with the field that is missing, malformed or not implemented.
    """
    fields = _Fields(raw, where)
    _check_architecture(raw, where)
    _refuse_unimplemented(raw, where)
    rope = _rope_fields(raw)
    experts = fields.count("n_routed_experts")
    config = ModelConfig(
        vocab_size=fields.count("vocab_size"),
        hidden_size=fields.count("hidden_size"),
        intermediate_size=fields.count("intermediate_size"),
        moe_intermediate_size=fields.count("moe_intermediate_size"),
        num_hidden_layers=fields.count("num_hidden_layers"),
        num_attention_heads=fields.count("num_attention_heads"),
        n_shared_experts=fields.count("n_shared_experts", 1),
        n_routed_experts=experts,
        num_experts_per_tok=fields.count("num_experts_per_tok"),
        n_group=fields.count("n_group", 1),
        topk_group=fields.count("topk_group", 1),
        first_k_dense_replace=fields.count("first_k_dense_replace", 0, least=0),
        norm_topk_prob=bool(raw.get("norm_topk_prob", True)),
        routed_scaling_factor=fields.number("routed_scaling_factor", 1.0),
        q_lora_rank=None if raw.get("q_lora_rank") is None else fields.count("q_lora_rank"),
        kv_lora_rank=fields.count("kv_lora_rank"),
        qk_nope_head_dim=fields.count("qk_nope_head_dim"),
        qk_rope_head_dim=fields.count("qk_rope_head_dim"),
        v_head_dim=fields.count("v_head_dim"),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=float(rope.get("rope_theta", 10000.0)),
        rope_interleave=raw.get("rope_interleave") is not False,
        yarn=_parse_yarn(rope, raw, where),
        max_position_embeddings=fields.count("max_position_embeddings"),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        attention_bias=bool(raw.get("attention_bias", False)),
        initializer_range=fields.number("initializer_range", 0.02),
        bos_token_id=raw.get("bos_token_id"),
        eos_token_ids=_token_ids(raw.get("eos_token_id"), where),
        dtype=raw.get("dtype") or raw.get("torch_dtype"),
    )
    _check_routing(config, where)
    return config


def _check_architecture(raw: Mapping[str, Any], where: object) -> None:
    """Check both names where both are given: a variant of the architecture may keep one."""
    fix = f"serve a {MODEL_TYPE} checkpoint, or use vLLM."
    model_type, architectures = raw.get("model_type"), raw.get("architectures")
    if model_type not in (None, MODEL_TYPE) or (model_type is None and not architectures):
        raise ModelLoadError(where, f"model_type is {model_type or 'none'!r}.", fix)
    if architectures and architectures != [ARCHITECTURE]:
        raise ModelLoadError(where, f"architectures is {architectures!r}.", fix)


class _Fields:
    """Reads numbers from the JSON; an error names the field."""

    def __init__(self, raw: Mapping[str, Any], where: object) -> None:
        self._raw = raw
        self._where = where

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self._refuse(name, value, f"a whole number of at least {least}")
        return int(value)

    def number(self, name: str, default: float) -> float:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(name, value, "a number")
        return float(value)

    def _get(self, name: str, default: float | None) -> Any:
        value = self._raw.get(name)
        if value is not None:
            return value
        if default is None:
            raise ModelLoadError(self._where, f"{name} is missing.", "copy the model again.")
        return default

    def _refuse(self, name: str, value: object, wanted: str) -> None:
        raise ModelLoadError(self._where, f"{name} is {value!r}.", f"use {wanted}.")


_FURTHER_MECHANISMS = (
    *("index_", "indexer", "sliding_window", "use_sliding_window", "sparse_attention"),
    *("compress_ratio", "attn_sink", "use_attention_sink"),
)


def _refuse_unimplemented(raw: Mapping[str, Any], where: object) -> None:
    wanted = {"scoring_func": "sigmoid", "topk_method": "noaux_tc", "hidden_act": "silu"}
    for name, only in wanted.items():
        if raw.get(name, only) != only:
            raise ModelLoadError(
                where, f"{name} is {raw[name]!r}, which is not implemented.", f"use {only!r}."
            )
    # Fields of other attention mechanisms, in variants of the architecture.
    for name, value in raw.items():
        if name.startswith(_FURTHER_MECHANISMS) and value:
            raise ModelLoadError(
                where,
                f"{name} is set, but sparse or windowed attention is not implemented.",
                "serve a checkpoint without it, or use vLLM.",
            )
    if raw.get("moe_layer_freq", 1) != 1:
        raise ModelLoadError(
            where, "moe_layer_freq is not 1; other values are not implemented.", "use 1."
        )
    if raw.get("quantization_config"):
        raise ModelLoadError(
            where,
            "quantization_config is set, but quantized weights are not implemented.",
            "convert the weights to bfloat16.",
        )


def _rope_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Merge both forms: `rope_parameters`, or `rope_scaling` with `rope_theta`."""
    merged: dict[str, Any] = {}
    if raw.get("rope_theta") is not None:
        merged["rope_theta"] = raw["rope_theta"]
    merged.update(raw.get("rope_scaling") or {})
    merged.update(raw.get("rope_parameters") or {})
    merged.setdefault("rope_type", merged.get("type", "default"))
    return merged


def _parse_yarn(
    rope: Mapping[str, Any], raw: Mapping[str, Any], where: object
) -> YarnConfig | None:
    kind = rope["rope_type"]
    if kind == "default":
        return None
    if kind != "yarn":
        raise ModelLoadError(where, f"rope type {kind!r} is not implemented.", "use 'yarn'.")
    try:
        original = int(rope["original_max_position_embeddings"])
        factor = rope.get("factor")
        return YarnConfig(
            factor=float(raw["max_position_embeddings"] / original if factor is None else factor),
            original_max_position_embeddings=original,
            beta_fast=float(rope.get("beta_fast") or 32),
            beta_slow=float(rope.get("beta_slow") or 1),
            mscale=rope.get("mscale"),
            mscale_all_dim=rope.get("mscale_all_dim"),
            attention_factor=rope.get("attention_factor"),
            truncate=bool(rope.get("truncate", True)),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelLoadError(
            where, f"the yarn rope parameters do not parse ({error!r}).", "copy the model again."
        ) from error


def _token_ids(value: object, where: object) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, int) for item in values):
        raise ModelLoadError(
            where, f"eos_token_id is {value!r}.", "use an integer or a list of integers."
        )
    return tuple(values)


def _check_routing(config: ModelConfig, where: object) -> None:
    experts, groups = config.n_routed_experts, config.n_group
    if experts % groups:
        raise ModelLoadError(
            where,
            f"n_routed_experts {experts} is not a multiple of n_group {groups}.",
            "correct one.",
        )
    if experts // groups < 2:
        raise ModelLoadError(where, "groups have fewer than 2 experts.", "lower n_group.")
    if config.topk_group > groups:
        raise ModelLoadError(
            where, f"topk_group {config.topk_group} is above n_group {groups}.", "lower topk_group."
        )
    if config.num_experts_per_tok > experts // groups * config.topk_group:
        raise ModelLoadError(
            where,
            f"num_experts_per_tok {config.num_experts_per_tok} is above the number of experts in"
            f" topk_group {config.topk_group} groups.",
            "lower it.",
        )
    if config.qk_rope_head_dim % 2:
        raise ModelLoadError(
            where, f"qk_rope_head_dim {config.qk_rope_head_dim} is not even.", "use an even number."
        )
