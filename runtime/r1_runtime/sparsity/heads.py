"""Mode of each layer and key head: a static mask, profiled offline and stored beside the checkpoint."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from pathlib import Path

from r1_runtime.architecture.description import LatentAttention, ModelDescription
from r1_runtime.errors import OptionError

FILE_NAME = "attention_heads.json"


class HeadMode(enum.IntEnum):
    """How a key head attends; `sparsity.h` has the same numbers."""

    DENSE = 0
    SPARSE = 1
    WINDOW = 2


@dataclass(frozen=True, slots=True)
class HeadModes:
    """Modes of all layers.

    Attributes:
        layers: mode of each key head of each layer; latent attention has one key head.
    """

    layers: tuple[tuple[HeadMode, ...], ...]

    @property
    def flat(self) -> bytes:
        """One byte per head, layer by layer."""
        return bytes(mode for layer in self.layers for mode in layer)

    def describe(self) -> str:
        """Number of heads of each mode."""
        each = [mode for layer in self.layers for mode in layer]
        return ", ".join(f"{each.count(mode)} {mode.name.lower()} heads" for mode in HeadMode)

    def check(self, heads: tuple[int, ...], origin: str) -> None:
        """Compare with the key heads of each layer of a model.

        Raises:
            OptionError: the modes are those of another model.
        """
        found = tuple(len(layer) for layer in self.layers)
        if found != heads:
            raise OptionError(
                f"{origin}: it has modes for key heads {_shape(found)}, but the model has"
                f" {_shape(heads)}. Fix: profile this model, or remove the option."
            )


def key_heads(description: ModelDescription) -> tuple[int, ...]:
    """Key heads of each layer; latent attention has one."""
    return tuple(
        1 if isinstance(layer.attention, LatentAttention) else layer.attention.kv_heads
        for layer in description.layers
    )


def uniform(heads: tuple[int, ...], mode: HeadMode) -> HeadModes:
    """The same mode for every head."""
    return HeadModes(tuple((mode,) * count for count in heads))


def read_head_modes(path: Path) -> HeadModes:
    """Read a file that `python -m r1_runtime.profiling.attention_heads` wrote.

    Raises:
        OptionError: the file cannot be read, or has another content.
    """
    try:
        layers = json.loads(path.read_text(encoding="utf-8"))["layers"]
        return HeadModes(tuple(tuple(HeadMode[name.upper()] for name in row) for row in layers))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OptionError(
            f"{path}: no head modes ({error}). Fix: python -m r1_runtime.profiling.attention_heads MODEL."
        ) from error


def write_head_modes(path: Path, modes: HeadModes) -> None:
    """Write the modes as JSON: {"layers": [["sparse", "dense", ...], ...]}."""
    rows = [[mode.name.lower() for mode in layer] for layer in modes.layers]
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    path.write_text(f'{{"layers": [\n  {lines}\n]}}\n', encoding="utf-8")


def _shape(heads: tuple[int, ...]) -> str:
    kinds = sorted(set(heads))
    each = " or ".join(str(kind) for kind in kinds)
    return f"{each} in {len(heads)} layers"
