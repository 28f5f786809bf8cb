"""The folders of clusters: the state of each cluster has a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path


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
