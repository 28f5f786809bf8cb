"""Which files a model path means: one GGUF file, numbered parts, or a folder with one model."""

from __future__ import annotations

import re
from pathlib import Path

from r1_runtime.errors import ModelLoadError

_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


def gguf_file_of(path: Path) -> Path | None:
    """The GGUF file of a model path, or its first part; None where the path is no GGUF model.

    Raises:
        ModelLoadError: the folder has several GGUF models.
    """
    if path.suffix == ".gguf" and not path.is_dir():
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    first = [file for file in files if _number(file) in (None, 1)]
    if len(first) > 1:
        raise ModelLoadError(
            path,
            f"the folder has {len(first)} GGUF models: {', '.join(file.name for file in first)}.",
            "point --model-path at one of the files.",
        )
    # Without a first part, opening any part names the one to point at.
    return next(iter(first or files), None)


def numbered_parts(path: Path) -> list[Path]:
    """All parts of a model whose first part is `path`; a file without a number is its only part."""
    match = _NUMBERED.fullmatch(path.name)
    if match is None:
        return [path]
    stem, number, count = match[1], int(match[2]), int(match[3])
    if number != 1:
        raise ModelLoadError(
            path, f"this is part {number} of {count}.", "point --model-path at part 1."
        )
    files = [path.with_name(f"{stem}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise ModelLoadError(path, f"part {missing[0]} is missing.", "copy the model again.")
    return files


def _number(file: Path) -> int | None:
    match = _NUMBERED.fullmatch(file.name)
    return int(match[2]) if match else None
