"""Cache folder for artifacts that can be rebuilt, keyed by pinned versions and shared by clones."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "r1-inference"
