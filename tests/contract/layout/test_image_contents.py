"""Contents of the images, by their ignore files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_runtime_image_has_no_training_code() -> None:
    lines = (ROOT / "images/runtime.Containerfile.dockerignore").read_text().splitlines()
    excluded = "runtime/r1_runtime/training"
    assert (ROOT / excluded).is_dir()
    # The last pattern that matches a path decides.
    assert lines.index(excluded) > lines.index("!runtime/r1_runtime")
