"""JSON files of a model, which may be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_common.untrusted_json import InvalidJson, parse_json
from r1_runtime.errors import ModelLoadError

_MAX_BYTES = 1 << 28  # vocabularies have tens of MB


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a file.

    Raises:
        ModelLoadError: the file is not readable, not JSON, or not an object.
    """
    try:
        value = parse_json(path.read_bytes(), max_bytes=_MAX_BYTES)
    except (InvalidJson, OSError) as error:
        raise ModelLoadError(path, f"not readable as JSON ({error}).", "copy it again.") from error
    if not isinstance(value, dict):
        raise ModelLoadError(path, "not a JSON object.", "copy it again.")
    return value
