"""From the command line to the policies for a mixture of experts, or an error that names the option."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from r1_runtime.architecture.description import Layer, MixtureOfExperts, ModelDescription
from r1_runtime.backends.cpu.backend import expert_counts
from r1_runtime.backends.selection import BackendChoice
from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.experts.dynamic_gate import DynamicGate
from r1_runtime.experts.residency import ExpertResidency, read_profile


@dataclass(frozen=True, slots=True)
class ExpertPolicy:
    """How many experts a token uses, and where experts are.

    Attributes:
        gate: None for the model's own number.
        residency: None for all experts in memory.
    """

    gate: DynamicGate | None = None
    residency: ExpertResidency | None = None

    @property
    def resident_fraction(self) -> float:
        """Share of the experts that need memory."""
        return 1.0 if self.residency is None else self.residency.fraction


ALL_EXPERTS = ExpertPolicy()
"""The model's own number of experts, all of them in memory."""


def expert_policy(
    config: R1Config, description: ModelDescription, choice: BackendChoice, ranks: int
) -> ExpertPolicy:
    """The policies of a configuration.

    Args:
        config: the options.
        description: the model.
        choice: what computes it.
        ranks: processes that compute it together.

    Raises:
        OptionError: the model, the backend or the number of ranks does not support an option.
    """
    gated, tiered = config.expert_mass is not None, config.resident_experts < 1
    if not gated and not tiered:
        return ALL_EXPERTS
    counts = expert_counts(description)
    option = "--expert-mass" if gated else "--resident-experts"
    if not any(counts):
        raise OptionError(
            f"command line: {option} needs a mixture of experts, but this {description.family} model"
            f" has none. Fix: remove {option}."
        )
    if tiered and choice.backend != "cpu":
        raise OptionError(
            "command line: --resident-experts needs the native CPU backend, but the"
            f" {choice.backend} backend serves. Fix: --backend cpu --device cpu."
        )
    if gated and (choice.backend == "cuda" or ranks > 1):
        what = "the CUDA backend serves" if ranks == 1 else f"{ranks} ranks compute the model"
        raise OptionError(
            f"command line: --expert-mass needs the native CPU or the reference backend in one process,"
            f" but {what}. Fix: remove --expert-mass."
        )
    return ExpertPolicy(
        _gate(config) if gated else None, _residency(config, counts) if tiered else None
    )


def with_most_experts(description: ModelDescription, gate: DynamicGate | None) -> ModelDescription:
    """The description with the largest number of experts that a token may use, for memory estimates."""
    if gate is None:
        return description

    def most(layer: Layer) -> Layer:
        feed_forward = layer.feed_forward
        if not isinstance(feed_forward, MixtureOfExperts):
            return layer
        count = min(gate.maximum, feed_forward.eligible)
        return replace(layer, feed_forward=replace(feed_forward, experts_per_token=count))

    return replace(description, layers=tuple(map(most, description.layers)))


def _gate(config: R1Config) -> DynamicGate:
    try:
        return DynamicGate(config.expert_mass or 0, config.min_experts, config.max_experts)
    except ValueError as error:
        raise OptionError(
            f"command line: --expert-mass, --min-experts, --max-experts: {error}."
        ) from error


def _residency(config: R1Config, counts: list[int]) -> ExpertResidency:
    profile = config.expert_profile
    return ExpertResidency(
        config.resident_experts,
        Path(config.expert_folder or tempfile.gettempdir()),
        None if profile is None else read_profile(Path(profile), counts),
    )
