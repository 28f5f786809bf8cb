"""Packed forms of the weights."""

from __future__ import annotations

from r1_runtime.tuning.technique import Bars, Technique, TechniqueKind

TECHNIQUES = (
    Technique(
        "stored weights",
        TechniqueKind.WEIGHTS,
        "no loss against the dequantised file",
        {"dtype": "auto"},
        Bars(perplexity=0.3),
    ),
    Technique(
        "BF16 weights",
        TechniqueKind.WEIGHTS,
        "no visible loss, half of the bytes",
        {"dtype": "bfloat16"},
        Bars(perplexity=0.1),
    ),
    Technique(
        "FP16 weights",
        TechniqueKind.WEIGHTS,
        "no visible loss, half of the bytes",
        {"dtype": "float16"},
        Bars(perplexity=0.1),
    ),
    Technique(
        "INT8 weights",
        TechniqueKind.WEIGHTS,
        "at most +0.3 % perplexity, decode 1.6 times as fast as FP32",
        {"quantization": "int8"},
        Bars(perplexity=0.3, decode=1 / 1.6),
    ),
    Technique(
        "INT4 weights",
        TechniqueKind.WEIGHTS,
        "at most +1 % perplexity, decode 2.2 times as fast as FP32",
        {"quantization": "int4"},
        Bars(perplexity=1.0, decode=1 / 2.2),
    ),
)
