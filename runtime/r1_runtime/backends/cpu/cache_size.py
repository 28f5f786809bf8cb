"""Bytes of the native backend's cache per block."""

from __future__ import annotations

from r1_runtime.architecture.description import LatentAttention, Layer, ModelDescription
from r1_runtime.backends.cpu.library import CacheType
from r1_runtime.sparsity.policy import UNIT, DynamicSparseAttention

_GROUP, _PADDING = 64, 16
_CODE_BYTES = {CacheType.INT8: 1.0, CacheType.INT4: 0.5, CacheType.FLOAT8: 1.0}
_SCALE_BYTES = {CacheType.INT8: 2, CacheType.INT4: 4, CacheType.FLOAT8: 2}
_ELEMENT_BYTES = {CacheType.FLOAT32: 4, CacheType.FLOAT16: 2, CacheType.BFLOAT16: 2}


def row_bytes(cache: CacheType, values: int) -> int:
    """Bytes of a stored key, value or latent."""
    if cache in _ELEMENT_BYTES:
        return values * _ELEMENT_BYTES[cache]
    padded = _padded(values)
    return int(padded * _CODE_BYTES[cache]) + -(-padded // _GROUP) * _SCALE_BYTES[cache]


def block_bytes(
    description: ModelDescription,
    cache: CacheType,
    block_size: int,
    sparsity: DynamicSparseAttention | None = None,
) -> int:
    """Bytes of one cache block of all layers, with the summaries that a policy needs."""
    token = sum(_token_bytes(layer, cache) for layer in description.layers)
    if sparsity is None:
        return token * block_size
    element = 4 if cache is CacheType.FLOAT32 else 2
    summary = sum(_summary_values(layer, sparsity) for layer in description.layers)
    return token * block_size + summary * element * (block_size // UNIT)


def _token_bytes(layer: Layer, cache: CacheType) -> int:
    attention = layer.attention
    if not isinstance(attention, LatentAttention):
        return 2 * attention.kv_heads * row_bytes(cache, attention.head_dim)
    if cache in _ELEMENT_BYTES:
        return row_bytes(cache, attention.latent_dim)
    return row_bytes(cache, attention.kv_lora_rank) + 2 * attention.rope.dim


def _summary_values(layer: Layer, sparsity: DynamicSparseAttention) -> int:
    attention = layer.attention
    if isinstance(attention, LatentAttention):
        return 2 * (_padded(attention.latent_dim) + _PADDING)
    return attention.kv_heads * _padded(attention.head_dim) * (3 if sparsity.correction else 2)


def _padded(values: int) -> int:
    return -(-values // _PADDING) * _PADDING
