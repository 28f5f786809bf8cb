"""Element types of the key-value cache."""

from __future__ import annotations

from r1_runtime.tuning.technique import Bars, Technique, TechniqueKind

TECHNIQUES = (
    Technique(
        "FP16 cache",
        TechniqueKind.CACHE,
        "no visible loss, half of the cache",
        {"kv_cache_dtype": "float16"},
        Bars(perplexity=0.1),
    ),
    Technique(
        "BF16 cache",
        TechniqueKind.CACHE,
        "no visible loss, half of the cache",
        {"kv_cache_dtype": "bfloat16"},
        Bars(perplexity=0.1),
    ),
)
