"""GGUF metadata to a `ModelDescription`: architectures llama, qwen2, qwen3 and deepseek2.

Metadata without a counterpart in the description are refused where they change the mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import (
    Attention,
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    GroupScore,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
    Scoring,
)
from r1_runtime.architecture.fields import ConfigFields
from r1_runtime.checkpoint.gguf_header import GgufTensor, Metadata
from r1_runtime.checkpoint.gguf_rope import parse_gguf_rope
from r1_runtime.errors import ModelLoadError

Tensors = Mapping[str, GgufTensor]
Divisors = NDArray[np.float32] | None

_NOT_IMPLEMENTED = (
    *("attention.sliding_window", "attention.clamp_kqv", "attention.max_alibi_bias"),
    *("attention.temperature_scale", "attn_logit_softcapping", "final_logit_softcapping"),
    *("logit_scale", "residual_scale", "embedding_scale"),
)
_SCORINGS = {1: Scoring.SOFTMAX, 2: Scoring.SIGMOID}
_FIX = "serve a model without it, or use llama.cpp."


def describe_gguf(
    metadata: Metadata,
    tensors: Tensors,
    divisors: Divisors,
    where: Path,
    *,
    positions: int | None = None,
) -> ModelDescription:
    """The network of a GGUF file.

    Args:
        metadata: of the file.
        tensors: the file's tensors; some properties, such as biases, show only there.
        divisors: values of `rope_freqs.weight`.
        where: the file, for messages.
        positions: longest sequence that will be computed; None for the model's own limit.

    Raises:
        ModelLoadError: the architecture or a property is not implemented, or a value is malformed.
    """
    name = metadata.get("general.architecture")
    parse = _ATTENTIONS.get(str(name))
    if parse is None:
        raise ModelLoadError(
            where,
            f"architecture {name!r} is not implemented.",
            f"serve one of {', '.join(_ATTENTIONS)}, or use llama.cpp.",
        )
    family = str(name)
    fields = ConfigFields(_fields_of(metadata, family), family, where)
    _refuse_unimplemented(fields, tensors)
    own_positions = fields.count("context_length")
    if fields.count("block_count") > len(tensors):
        raise fields.error(
            f"block_count {fields.count('block_count')} is above the number of tensors"
            f" {len(tensors)}.",
            "copy the file again.",
        )
    layers = fields.count("block_count") - fields.count("nextn_predict_layers", 0, least=0)
    attention = parse(fields, tensors, divisors)
    feed_forwards = _feed_forwards(fields, tensors, layers)
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelLoadError(where, "tensor token_embd.weight is missing.", "copy the file again.")
    return ModelDescription(
        family=family,
        vocab_size=embedding.shape[0],
        hidden_size=fields.count("embedding_length"),
        norm_eps=fields.number("attention.layer_norm_rms_epsilon"),
        layers=tuple(Layer(attention, feed_forward) for feed_forward in feed_forwards),
        tied_head="output.weight" not in tensors,
        max_positions=own_positions if positions is None else min(own_positions, positions),
        bos_token_id=_token(metadata, "bos"),
        eos_token_ids=tuple(
            dict.fromkeys(
                token
                for kind in ("eos", "eot", "eom")
                if (token := _token(metadata, kind)) is not None
            )
        ),
    )


def _fields_of(metadata: Metadata, family: str) -> dict[str, Any]:
    """The architecture's values without its prefix; a value per layer becomes one where all agree."""
    prefix = family + "."
    values: dict[str, Any] = {}
    for name, value in metadata.items():
        if name.startswith(prefix):
            if isinstance(value, np.ndarray):
                distinct = np.unique(value)
                value = distinct[0].item() if len(distinct) == 1 else value.tolist()
            values[name.removeprefix(prefix)] = value
    return values


def _refuse_unimplemented(fields: ConfigFields, tensors: Tensors) -> None:
    for name in _NOT_IMPLEMENTED:
        if fields.get(name):
            raise fields.error(f"{name} is set, which is not implemented.", _FIX)
    fields.only("attention.causal", True)
    for tensor in ("rope_factors_long.weight", "rope_factors_short.weight"):
        if tensor in tensors:
            raise fields.error(f"tensor {tensor} (longrope) is not implemented.", _FIX)


def _token(metadata: Metadata, kind: str) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{kind}_token_id")
    return value if isinstance(value, int) else None


def _grouped_query(
    fields: ConfigFields, tensors: Tensors, divisors: Divisors
) -> GroupedQueryAttention:
    if fields.get("expert_count"):
        raise fields.error("expert_count is set, which is not implemented.", _FIX)
    heads = fields.count("attention.head_count")
    head_dim = fields.count("attention.key_length", fields.count("embedding_length") // heads)
    fields.only("attention.value_length", head_dim)
    fields.only("rope.dimension_count", head_dim)
    rope, _ = parse_gguf_rope(fields, head_dim, divisors, interleaved=False)
    return GroupedQueryAttention(
        heads=heads,
        kv_heads=fields.count("attention.head_count_kv", heads),
        head_dim=head_dim,
        rope=rope,
        softmax_scale=fields.number("attention.scale", 0.0) or head_dim**-0.5,
        qkv_bias="blk.0.attn_q.bias" in tensors,
        output_bias="blk.0.attn_output.bias" in tensors,
        qk_norm="blk.0.attn_q_norm.weight" in tensors,
    )


def _latent(fields: ConfigFields, tensors: Tensors, divisors: Divisors) -> LatentAttention:
    """Newer files store the sizes of the compressed heads, and those of the heads as `*_mla`."""
    rope_dim = fields.count("rope.dimension_count")
    key = fields.count("attention.key_length_mla", fields.count("attention.key_length"))
    value = fields.count("attention.value_length_mla", fields.count("attention.value_length"))
    rope, softmax_factor = parse_gguf_rope(fields, rope_dim, divisors, interleaved=True)
    if key <= rope_dim:
        raise fields.error(
            f"attention.key_length {key} is not above rope.dimension_count {rope_dim}.",
            "convert the model again.",
        )
    return LatentAttention(
        heads=fields.count("attention.head_count"),
        q_lora_rank=fields.optional_count("attention.q_lora_rank"),
        kv_lora_rank=fields.count("attention.kv_lora_rank"),
        qk_nope_head_dim=key - rope_dim,
        v_head_dim=value,
        rope=rope,
        softmax_scale=key**-0.5 * softmax_factor,
        bias="blk.0.attn_output.bias" in tensors,
    )


_ATTENTIONS: dict[str, Callable[[ConfigFields, Tensors, Divisors], Attention]] = {
    "llama": _grouped_query,
    "qwen2": _grouped_query,
    "qwen3": _grouped_query,
    "deepseek2": _latent,
}


def _feed_forwards(fields: ConfigFields, tensors: Tensors, layers: int) -> list[FeedForward]:
    dense = fields.count("leading_dense_block_count", 0, least=0)
    if not fields.get("expert_count"):
        dense = layers
    every: list[FeedForward] = [DenseFeedForward(fields.count("feed_forward_length"))] * dense
    if dense >= layers:
        return every[:layers]
    return every + [_experts(fields, tensors, dense)] * (layers - dense)


def _experts(fields: ConfigFields, tensors: Tensors, first: int) -> MixtureOfExperts:
    """Files older than the metadata of expert groups are served as llama.cpp does: in one group."""
    gating = fields.count("expert_gating_func", 1, least=0) or 1
    scoring = _SCORINGS.get(gating)
    if scoring is None:
        raise fields.error(f"expert_gating_func {gating} is not implemented.", _FIX)
    router = tensors.get(f"blk.{first}.ffn_gate_inp.weight")
    if router is None or router.shape[:1] != (fields.count("expert_count"),):
        raise fields.error(
            f"expert_count is {fields.count('expert_count')}, but tensor"
            f" blk.{first}.ffn_gate_inp.weight is missing or has another number of rows.",
            "convert the model again.",
        )
    inner = fields.count("expert_feed_forward_length")
    sigmoid = scoring is Scoring.SIGMOID
    experts = MixtureOfExperts(
        experts=fields.count("expert_count"),
        experts_per_token=fields.count("expert_used_count"),
        inner=inner,
        shared_inner=inner * fields.count("expert_shared_count", 0, least=0),
        scoring=scoring,
        correction_bias=f"blk.{first}.exp_probs_b.bias" in tensors,
        normalise=fields.flag("expert_weights_norm", False),
        scale=fields.number("expert_weights_scale", 0.0) or 1.0,
        groups=fields.count("expert_group_count", 1),
        top_groups=fields.count("expert_group_used_count", 1),
        group_score=GroupScore.TOP2_SUM if sigmoid else GroupScore.MAXIMUM,
    )
    size = experts.experts // experts.groups
    if experts.experts % experts.groups or experts.top_groups > experts.groups:
        raise fields.error(
            f"{experts.experts} experts in {experts.groups} groups, {experts.top_groups} of them"
            " eligible, is impossible.",
            "convert the model again.",
        )
    if experts.experts_per_token > size * experts.top_groups:
        raise fields.error(
            f"expert_used_count {experts.experts_per_token} is above the number of eligible"
            f" experts {size * experts.top_groups}.",
            "convert the model again.",
        )
    return experts
