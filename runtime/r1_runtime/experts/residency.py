"""Hot and cold experts: which experts are in memory, and which are mapped from a packed file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1_runtime.errors import OptionError

Uses = NDArray[
    np.uint64
]  # [layers, experts] tokens that each expert computed; dense layers have zeros


@dataclass(frozen=True, slots=True)
class ExpertResidency:
    """Where the experts of the native backend are.

    Attributes:
        fraction: experts in memory, 0 to 1.
        folder: of the packed file, on a disk.
        uses: [layers, experts] measured uses that decide; None: the first ones of each layer.
        prefetch: ask for the pages of experts that the next layer will probably use.
        promote: exchange experts by their use while the model serves.
    """

    fraction: float
    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    uses: Uses | None = None
    prefetch: bool = True
    promote: bool = True

    def resident(self, layers: list[int]) -> list[NDArray[np.bool_]]:
        """For each layer with the given number of experts: which of them are in memory."""
        if self.uses is None:
            return [np.arange(experts) < round(self.fraction * experts) for experts in layers]
        return hottest(self.uses, layers, self.fraction)


@dataclass(frozen=True, slots=True)
class ExpertTotals:
    """What the experts have done since the start.

    Attributes:
        rows: tokens, once per layer with experts.
        chosen: experts that computed them.
        hits: experts in memory that a step read.
        misses: mapped experts that a step read.
        promotions: mapped experts that came into memory.
        resident_bytes: of the experts in memory.
        file_bytes: of the packed file; 0 without one.
    """

    rows: int = 0
    chosen: int = 0
    hits: int = 0
    misses: int = 0
    promotions: int = 0
    resident_bytes: int = 0
    file_bytes: int = 0

    @property
    def mean_experts(self) -> float:
        """Experts per token and layer; 0 before the first step."""
        return self.chosen / self.rows if self.rows else 0.0


def hottest(uses: Uses, layers: list[int], fraction: float) -> list[NDArray[np.bool_]]:
    """The most used experts of the whole model, `fraction` of them; ties go to the earlier ones."""
    real = [(layer, expert) for layer, experts in enumerate(layers) for expert in range(experts)]
    order = np.argsort([-float(uses[place]) for place in real], kind="stable")
    resident = [np.zeros(experts, bool) for experts in layers]
    for number in order[: round(fraction * len(real))].tolist():
        layer, expert = real[number]
        resident[layer][expert] = True
    return resident


def write_profile(path: Path, uses: Uses, note: Mapping[str, Any]) -> None:
    """Write measured uses as JSON."""
    path.write_text(json.dumps({**note, "uses": uses.tolist()}) + "\n", encoding="utf-8")


def read_profile(path: Path, layers: list[int]) -> Uses:
    """Uses that `write_profile` wrote.

    Args:
        path: of the file.
        layers: experts of each layer, 0 for a dense one.

    Raises:
        OptionError: the file is not readable, or is of another model.
    """
    fix = "record it again: python -m r1_runtime.conversion.expert_profile"
    try:
        uses = np.array(json.loads(path.read_text(encoding="utf-8"))["uses"], np.uint64)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise OptionError(
            f"command line: --expert-profile {path} is not a readable profile ({error}). Fix: {fix}."
        ) from error
    if uses.shape != (len(layers), max(layers)):
        raise OptionError(
            f"command line: --expert-profile {path} has {list(uses.shape)} layers and experts, the"
            f" model {[len(layers), max(layers)]}. Fix: {fix}."
        )
    return uses
