"""The folder of what can be rebuilt; it outlives clones, and its contents are keyed by pins."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder of everything that can be rebuilt from pins."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "r1-inference"
