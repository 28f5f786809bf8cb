"""Checks of fields that mean the same in every family."""

from __future__ import annotations

from collections.abc import Mapping

from r1_runtime.architecture.fields import ConfigFields

FP8_BLOCK = 128  # rows and columns of one factor of an FP8 matrix

# Fields of attention that needs more than the weights that a description names.
_SPARSE_ATTENTION = (
    *("index_", "indexer", "sparse_attention", "compress_ratio", "attn_sink", "use_attention_sink"),
    *("attention_chunk_size", "attn_logit_softcapping", "final_logit_softcapping"),
)


def check_common_fields(fields: ConfigFields) -> None:
    """Refuse what changes the mathematics in any family and is not implemented.

    Raises:
        ModelLoadError: with the field and the fix.
    """
    fields.only("hidden_act", "silu")
    for name, value in fields.raw.items():
        if name.startswith(_SPARSE_ATTENTION) and value:
            raise fields.error(
                f"{name} is set, but sparse or modified attention is not implemented.",
                "serve a checkpoint without it, or use vLLM.",
            )
    _check_sliding_window(fields)
    _check_quantization(fields)


def _check_sliding_window(fields: ConfigFields) -> None:
    """A window of at least the longest sequence is full attention."""
    enabled, kinds = fields.get("use_sliding_window"), fields.get("layer_types") or []
    if not isinstance(kinds, list):
        raise fields.error(f"layer_types is {kinds!r}.", "use a list, or null.")
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise fields.error(
                f"layer_types has {kind!r}, which is not implemented.",
                "serve a checkpoint with full attention in every layer, or use vLLM.",
            )
    if enabled is False or (kinds and "sliding_attention" not in kinds):
        return
    window = fields.optional_count("sliding_window")
    if window is None and (enabled or kinds):
        raise fields.error(
            "use_sliding_window is set, but sliding_window has no value.", "copy the model again."
        )
    positions = fields.max_positions()
    if window is not None and window < positions:
        raise fields.error(
            f"sliding_window is {window}, less than the {positions} positions, and windowed"
            " attention is not implemented.",
            f"use --max-model-len {window} or less, which computes the same, or use vLLM.",
        )


def _check_quantization(fields: ConfigFields) -> None:
    """Accept FP8 with one factor per 128 x 128 block, as DeepSeek publishes V3 and R1."""
    quantization = fields.get("quantization_config")
    if not quantization:
        return
    fix = "convert the weights to bfloat16, or use vLLM."
    if not isinstance(quantization, Mapping):
        raise fields.error(f"quantization_config is {quantization!r}.", fix)
    wanted = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
    }
    for name, only in wanted.items():
        value = quantization.get(name, only if name == "fmt" else None)
        if value != only:
            raise fields.error(
                f"quantization_config.{name} is {value!r}, which is not implemented (only"
                f" {only!r} is).",
                fix,
            )
