"""Mixtures of experts: fewer experts per token, and experts outside of memory. Refused by dense models."""

from __future__ import annotations

from r1_runtime.tuning.technique import Bars, Technique, TechniqueKind

_EVERY = 1024  # more than any layer has

TECHNIQUES = (
    Technique(
        "dynamic experts at mass 0.9",
        TechniqueKind.EXPERTS,
        "2 to 8 experts by content, at most +1 % at half of the experts",
        {"expert_mass": 0.9, "max_experts": _EVERY},
        Bars(perplexity=1.0, decode=1.0),
    ),
    Technique(
        "dynamic experts at mass 0.98",
        TechniqueKind.EXPERTS,
        "2 to 8 experts by content, at most +1 % at half of the experts",
        {"expert_mass": 0.98, "max_experts": _EVERY},
        Bars(perplexity=1.0, decode=1.0),
    ),
    Technique(
        "70 % of the experts in memory",
        TechniqueKind.EXPERTS,
        "exact, at least 0.75 of the speed",
        {"resident_experts": 0.7},
        Bars(perplexity=0.0, decode=1.33),
    ),
)
