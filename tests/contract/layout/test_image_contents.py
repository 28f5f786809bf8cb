"""Contents of the images, by their ignore files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("part", ["runtime", "runtime-cuda"])
def test_runtime_images_have_no_training_code(part: str) -> None:
    lines = (ROOT / f"images/{part}.Containerfile.dockerignore").read_text().splitlines()
    excluded = "runtime/r1_runtime/training"
    assert (ROOT / excluded).is_dir()
    # The last pattern that matches a path decides.
    assert lines.index(excluded) > lines.index("!runtime/r1_runtime")


def test_the_cpu_image_has_no_torch_and_the_gpu_image_has_the_same_packages_beside_it() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / f"constraints/{name}.txt").read_text()
        return set(re.findall(r"^([a-z0-9-]+==\S+)", text, re.MULTILINE))

    cpu, gpu = pins("runtime"), pins("runtime-cuda")
    assert cpu < gpu
    assert not [pin for pin in cpu if re.match(r"torch|triton|nvidia|cuda|sympy", pin)]
    assert {pin.partition("==")[0] for pin in gpu} >= {"torch", "triton"}
