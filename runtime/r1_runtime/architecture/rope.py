"""Rotary position embeddings: tables of frequencies, in float32 as `transformers` computes them.

Each published extension of the context changes the frequencies and, for YaRN, one factor on cosines
and sines. The functions of frequencies return radians per position, float32 [dim / 2].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import Rope
from r1_runtime.architecture.fields import ConfigFields, is_number

Frequencies = NDArray[np.float32]


def default_frequencies(dim: int, base: float) -> Frequencies:
    """base ** (-2i / dim) (arXiv 2104.09864)."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    return np.float32(1) / np.float32(base) ** exponents


def linear_frequencies(dim: int, base: float, factor: float) -> Frequencies:
    """Positions divided by `factor` (arXiv 2306.15595)."""
    return default_frequencies(dim, base) / np.float32(factor)


@dataclass(frozen=True, slots=True)
class Llama3:
    """Llama 3.1: long wavelengths divided by `factor`, short ones unchanged, a ramp between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def frequencies(self, dim: int, base: float) -> Frequencies:
        plain = default_frequencies(dim, base)
        wavelengths = np.float32(2 * math.pi) / plain
        original, low = self.original_max_position_embeddings, self.low_freq_factor
        ramp = (np.float32(original) / wavelengths - np.float32(low)) / np.float32(
            self.high_freq_factor - low
        )
        scaled = plain / np.float32(self.factor)
        mixed = (np.float32(1) - ramp) * scaled + ramp * plain
        medium = np.where(wavelengths > original / low, scaled, mixed)
        return np.where(wavelengths < original / self.high_freq_factor, plain, medium)


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN (arXiv 2309.00071) with DeepSeek's two `mscale` parameters."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    attention_factor: float | None = None
    truncate: bool = True

    def frequencies(self, dim: int, base: float) -> Frequencies:
        plain = default_frequencies(dim, base)
        keep = self._extrapolation_share(dim, base)
        mixed: Frequencies = plain / np.float32(self.factor) * (np.float32(1) - keep) + plain * keep
        return mixed

    def cos_sin_scale(self) -> float:
        """Factor on the cosines and sines."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._mscale(self.mscale) / self._mscale(self.mscale_all_dim)
        return self._mscale(1.0)

    def softmax_factor(self) -> float:
        """Factor on the scores of latent attention: mscale squared, as in DeepSeek-V3's own code."""
        return self._mscale(self.mscale_all_dim) ** 2 if self.mscale_all_dim else 1.0

    def _mscale(self, weight: float) -> float:
        return 1.0 if self.factor <= 1 else 0.1 * weight * math.log(self.factor) + 1.0

    def _extrapolation_share(self, dim: int, base: float) -> Frequencies:
        """Share of each pair's original frequency: 1 for fast pairs, 0 for slow ones."""

        def pair_of(rotations: float) -> float:
            length = self.original_max_position_embeddings
            return dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_of(self.beta_fast), pair_of(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        if low == high:
            high += 0.001  # a ramp of no width would divide by zero
        ramp = (np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low)
        share: Frequencies = np.float32(1) - np.clip(ramp, np.float32(0), np.float32(1))
        return share


def parse_rope(fields: ConfigFields, dim: int, *, interleaved: bool) -> tuple[Rope, float]:
    """The rotary embedding of `dim` dimensions, and YaRN's factor on the scores of latent attention.

    Both spellings of the configuration are read: `rope_parameters`, or `rope_scaling` with
    `rope_theta` beside it.

    Raises:
        ModelLoadError: the type is not implemented, or a parameter is missing or malformed.
    """
    merged = _merged(fields)
    base = _number(fields, merged, "rope_theta", 10000.0, least=1.001)
    kind = merged["rope_type"]
    scale = softmax = 1.0
    if kind == "default":
        frequencies = default_frequencies(dim, base)
    elif kind == "linear":
        frequencies = linear_frequencies(dim, base, _number(fields, merged, "factor"))
    elif kind == "llama3":
        frequencies = _llama3(fields, merged).frequencies(dim, base)
    elif kind == "yarn":
        yarn = _yarn(fields, merged)
        frequencies = yarn.frequencies(dim, base)
        scale, softmax = yarn.cos_sin_scale(), yarn.softmax_factor()
    else:
        raise fields.error(
            f"rope type {kind!r} is not implemented.",
            "serve a checkpoint with 'default', 'linear', 'llama3' or 'yarn', or use vLLM.",
        )
    return Rope(dim, interleaved, tuple(map(float, frequencies)), scale), softmax


def _merged(fields: ConfigFields) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    if fields.get("rope_theta") is not None:
        merged["rope_theta"] = fields.get("rope_theta")
    for name in ("rope_scaling", "rope_parameters"):
        value = fields.get(name)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise fields.error(f"{name} is {value!r}.", "use an object or null.")
        if any(isinstance(item, Mapping) for item in value.values()):
            raise fields.error(
                f"{name} has an object for each kind of layer, which is not implemented.",
                "serve a checkpoint with one rotary embedding.",
            )
        merged.update(value)
    for part in (fields.get("partial_rotary_factor"), merged.get("partial_rotary_factor")):
        if part not in (None, 1, 1.0):
            raise fields.error(
                f"partial_rotary_factor is {part!r}, which is not implemented.", "use 1.0."
            )
    merged.setdefault("rope_type", merged.get("type", "default"))
    return merged


def _number(
    fields: ConfigFields,
    merged: Mapping[str, Any],
    name: str,
    default: float | None = None,
    *,
    least: float = 1e-6,
) -> float:
    """A finite number of at least `least`, which excludes 0 by default."""
    value = merged.get(name)
    value = default if value is None else value
    if not is_number(value) or not least <= value < math.inf:
        raise fields.error(
            f"{name} of the {merged['rope_type']} rope parameters is {value!r}.",
            f"use a number of at least {least:g}.",
        )
    return float(value)


def _llama3(fields: ConfigFields, merged: Mapping[str, Any]) -> Llama3:
    low, high = (_number(fields, merged, f"{end}_freq_factor") for end in ("low", "high"))
    if low == high:
        raise fields.error(
            f"low_freq_factor and high_freq_factor are both {low:g}.", "copy the model again."
        )
    positions = fields.count("max_position_embeddings")
    return Llama3(
        factor=_number(fields, merged, "factor"),
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=int(
            _number(fields, merged, "original_max_position_embeddings", positions)
        ),
    )


def _yarn(fields: ConfigFields, merged: Mapping[str, Any]) -> Yarn:
    original = _number(fields, merged, "original_max_position_embeddings")
    attention_factor = merged.get("attention_factor")
    return Yarn(
        # DeepSeek's first files have no factor: it is then the ratio of the lengths.
        factor=_number(
            fields, merged, "factor", fields.count("max_position_embeddings") / original
        ),
        original_max_position_embeddings=int(original),
        beta_fast=_number(fields, merged, "beta_fast", 32.0),
        beta_slow=_number(fields, merged, "beta_slow", 1.0),
        mscale=_number(fields, merged, "mscale", 0.0, least=0.0),
        mscale_all_dim=_number(fields, merged, "mscale_all_dim", 0.0, least=0.0),
        attention_factor=(
            None if attention_factor is None else _number(fields, merged, "attention_factor")
        ),
        truncate=merged.get("truncate") is not False,
    )
