"""Opening of a checkpoint of any supported format."""

from __future__ import annotations

from pathlib import Path

from r1_runtime.architecture.families import read_description
from r1_runtime.checkpoint.gguf_file import GgufCheckpoint
from r1_runtime.checkpoint.gguf_paths import gguf_file_of
from r1_runtime.checkpoint.safetensors_checkpoint import SafetensorsCheckpoint
from r1_runtime.checkpoint.source import Checkpoint


def open_checkpoint(path: Path, *, positions: int | None = None) -> Checkpoint:
    """Open a folder with config.json and safetensors files, or a GGUF file.

    Args:
        path: the folder, a GGUF file, or a folder with one GGUF model and no config.json.
        positions: longest sequence that will be computed; None for the model's own limit. The
            description's `max_positions` is the smaller of both.

    Raises:
        ModelLoadError: the checkpoint is damaged or not implemented; one line with the fix.
    """
    file = gguf_file_of(path)
    if file is not None:
        return GgufCheckpoint(file, positions=positions)
    return SafetensorsCheckpoint(path, read_description(path, positions=positions))
