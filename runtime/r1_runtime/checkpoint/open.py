"""Opening of a checkpoint of any supported format."""

from __future__ import annotations

from pathlib import Path

from r1_runtime.architecture.families import read_description
from r1_runtime.checkpoint.safetensors_checkpoint import SafetensorsCheckpoint
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.errors import ModelLoadError


def open_checkpoint(path: Path, *, positions: int | None = None) -> Checkpoint:
    """Open a folder with config.json and safetensors files.

    Args:
        path: the folder.
        positions: longest sequence that will be computed; None for the model's own limit. The
            description's `max_positions` is the smaller of both.

    Raises:
        ModelLoadError: the checkpoint is damaged or not implemented; one line with the fix.
    """
    if path.suffix == ".gguf":
        raise ModelLoadError(
            path,
            "a GGUF file, which is not implemented.",
            "use a folder with config.json and *.safetensors.",
        )
    return SafetensorsCheckpoint(path, read_description(path, positions=positions))
