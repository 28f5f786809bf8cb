"""The pod of each released layout, to the byte: an upgrade must not roll model pods.

Before the first release a layout may change: run this file as a script to write it again.
After it, a change of the pod is a new layout beside the old one
(docs/decisions/0051-upgrades-roll-no-pods.md).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_operator.api.v1 import parse
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload.pod import build_pod_template
from r1_operator.plan.workload.revision import RENDERERS, Rendering

FOLDER = Path(__file__).parent / "layouts"
EXAMPLES = Path(__file__).parents[5] / "examples"
IMAGE = "registry.example/runtime:1"


def pods_of(renderer: int) -> dict[str, Any]:
    """The pod template of every example, by the resource's name."""
    resources = (parse(yaml.safe_load(path.read_text())) for path in EXAMPLES.glob("*.yaml"))
    return {
        resource.name: build_pod_template(
            resource, Defaults(runtime_image=IMAGE), Rendering(renderer, IMAGE)
        )
        for resource in sorted(resources, key=lambda resource: resource.name)
    }


@pytest.mark.parametrize("renderer", sorted(RENDERERS))
def test_the_layout_is_what_it_was(renderer: int) -> None:
    assert pods_of(renderer) == json.loads((FOLDER / f"{renderer}.json").read_text())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for number in sorted(RENDERERS):
        text = json.dumps(pods_of(number), indent=1) + "\n"
        (FOLDER / f"{number}.json").write_text(text)
