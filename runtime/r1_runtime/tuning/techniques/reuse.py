"""Exact techniques, which skip work instead of approximating it."""

from __future__ import annotations

from r1_runtime.tuning.technique import DENSE, Bars, Technique, TechniqueKind, Workload

TECHNIQUES = (
    Technique(
        "n-gram speculation",
        TechniqueKind.SPECULATION,
        "the same text in less time where the output repeats the prompt",
        {"speculation": "ngram"},
        Bars(decode=1.0),
        workload=Workload.CONTINUATION,
    ),
    Technique(
        "prefix cache",
        TechniqueKind.REUSE,
        "the same text; a prompt's beginning is computed once",
        {"prefix_caching": True},
        Bars(decode=0.5),
        time_baseline={**DENSE, "prefix_caching": False},
        workload=Workload.SHARED_PREFIX,
    ),
)
