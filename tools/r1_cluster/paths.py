"""Where things lie: caches outlive clones and are keyed by pins, state belongs to one cluster."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the folder of everything that can be rebuilt from pins."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "r1-inference"


def state_root() -> Path:
    """Return the folder under which each cluster has one folder of its own."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "r1-inference"


def clusters_root() -> Path:
    """Return the folder that holds one folder per local cluster."""
    return state_root() / "clusters"


def repository_root() -> Path:
    """Return the clone this package runs from; only meaningful for editable installs."""
    return Path(__file__).resolve().parents[2]
