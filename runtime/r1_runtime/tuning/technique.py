"""A technique: a change of the configuration, with what is claimed for it and the limits it has to keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from r1_runtime.config import R1Config
from r1_runtime.quality.configuration import LoadedConfiguration

DENSE: Mapping[str, Any] = {"dtype": "float32", "kv_cache_dtype": "float32"}
"""Fields of the configuration that every quality figure is compared with."""


class TechniqueKind(Enum):
    """What a technique changes. A configuration has at most one technique of each kind."""

    WEIGHTS = "weights"
    CACHE = "cache"
    ATTENTION = "attention"
    EXPERTS = "experts"
    SPECULATION = "speculation"
    REUSE = "reuse"


class Workload(Enum):
    """What is computed to measure a technique."""

    EVALUATION = "evaluation"
    """the evaluation of `r1_runtime.quality`, then decoding and prefill in turns with the baseline"""
    CONTINUATION = "continuation"
    """the whole engine continues texts greedily, in turns with the baseline"""
    COPYING = "copying"
    """the same, with texts that occur twice"""
    SHARED_PREFIX = "shared prefix"
    """the whole engine answers short questions behind one long text"""


@dataclass(frozen=True, slots=True)
class Bars:
    """Limits that a technique has to keep to be recommended; None where there is none.

    Attributes:
        perplexity: most percent of perplexity lost.
        retrieval: least share of the baseline's retrieval.
        decode: largest ratio of CPU time per decoded token.
        prefill: largest ratio of CPU time per token of a prompt.
    """

    perplexity: float | None = None
    retrieval: float | None = None
    decode: float | None = None
    prefill: float | None = None


@dataclass(frozen=True, slots=True)
class Technique:
    """One row of the table of techniques.

    Attributes:
        name: stable name, for reports and `--techniques`.
        kind: what it changes.
        claim: what the articles claim for it.
        changes: fields of `R1Config` that switch it on.
        bars: limits of the project.
        time_baseline: fields of the configuration whose CPU time is compared: the dense one at the same
            bits.
        workload: what is computed to measure it.
        read_share: after an evaluation, share of the cached tokens that attention has read.
    """

    name: str
    kind: TechniqueKind
    claim: str
    changes: Mapping[str, Any]
    bars: Bars = Bars()
    time_baseline: Mapping[str, Any] = field(default_factory=lambda: DENSE)
    workload: Workload = Workload.EVALUATION
    read_share: Callable[[LoadedConfiguration], float] | None = None

    def applied(self, config: R1Config) -> R1Config:
        """The configuration with the technique.

        Raises:
            OptionError: its values exclude each other.
        """
        return dataclasses.replace(config, **{**DENSE, **self.changes})

    def baseline(self, config: R1Config) -> R1Config:
        """The configuration whose CPU time is compared."""
        return dataclasses.replace(config, **self.time_baseline)

    def switch(self) -> str:
        """The command line options that switch it on."""
        words = R1Config(base_model="", **self.changes).arguments()[2:]
        return " ".join(words) or "(default)"
