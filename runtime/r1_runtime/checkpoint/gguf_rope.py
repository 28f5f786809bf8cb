"""The rotary embedding that GGUF metadata describe.

Llama 3's scaling is stored as one divisor per pair (`rope_freqs.weight`), the others as parameters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import Rope
from r1_runtime.architecture.fields import ConfigFields
from r1_runtime.architecture.rope import Yarn, default_frequencies, linear_frequencies

_MOST_DIMENSIONS = 8192  # far above any model, and a bound for a damaged file
_DEEPSEEK_MULTIPLIER = 0.1  # converters store mscale_all_dim times this


def parse_gguf_rope(
    fields: ConfigFields, dim: int, divisors: NDArray[np.float32] | None, *, interleaved: bool
) -> tuple[Rope, float]:
    """The embedding of `dim` dimensions, and YaRN's factor on the scores of latent attention.

    Args:
        fields: the metadata of the architecture, without its prefix.
        dim: rotated dimensions of a head.
        divisors: of the frequencies, [dim / 2], where the file has them.
        interleaved: order of the pairs, see `Rope`.

    Raises:
        ModelLoadError: the scaling is not implemented, or a value is malformed.
    """
    if dim % 2 or dim > _MOST_DIMENSIONS:
        raise fields.error(
            f"a head rotates {dim} dimensions; only even numbers up to {_MOST_DIMENSIONS} are"
            " possible.",
            "convert the model again.",
        )
    if fields.get("rope.scaling.yarn_ext_factor") is not None:
        fields.only("rope.scaling.yarn_ext_factor", 1.0)
    base = fields.number("rope.freq_base", 10000.0)
    factor = fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 0.0)) or 1.0
    kind = fields.get("rope.scaling.type") or "linear"
    scale = softmax = 1.0
    if kind == "none":
        frequencies = default_frequencies(dim, base)
    elif kind == "linear":
        frequencies = linear_frequencies(dim, base, factor)
    elif kind == "yarn":
        yarn = _yarn(fields, factor)
        frequencies = yarn.frequencies(dim, base)
        scale, softmax = yarn.cos_sin_scale(), yarn.softmax_factor()
        scale *= fields.number("rope.scaling.attn_factor", 1.0)
    else:
        raise fields.error(
            f"rope.scaling.type {kind!r} is not implemented.",
            "serve a model with 'none', 'linear' or 'yarn', or use llama.cpp.",
        )
    if divisors is not None:
        if divisors.shape != (dim // 2,):
            raise fields.error(
                f"rope_freqs.weight has shape {divisors.shape}, expected ({dim // 2},).",
                "convert the model again.",
            )
        frequencies = frequencies / divisors
    return Rope(dim, interleaved, tuple(map(float, frequencies)), scale), softmax


def _yarn(fields: ConfigFields, factor: float) -> Yarn:
    """DeepSeek's two `mscale` parameters are equal in every published model; the file has one.

    In other architectures the file's parameter is the second, and the first is 1.
    """
    multiplier = fields.number("rope.scaling.yarn_log_multiplier", 0.0)
    if fields.family == "deepseek2":
        multiplier /= _DEEPSEEK_MULTIPLIER
        mscale = multiplier
    else:
        mscale = 1.0
    return Yarn(
        factor=factor,
        original_max_position_embeddings=fields.count(
            "rope.scaling.original_context_length", fields.count("context_length")
        ),
        beta_fast=fields.number("rope.scaling.yarn_beta_fast", 32.0),
        beta_slow=fields.number("rope.scaling.yarn_beta_slow", 1.0),
        mscale=mscale,
        mscale_all_dim=multiplier,
    )
