"""The chart's CRD is the generated one, and stays when the chart goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
NAME = "deepseek.ai_r1inferences.yaml"


def crds(manifests: list[Manifest]) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == "CustomResourceDefinition"]


def test_the_charts_copy_is_the_generated_file(chart: Path) -> None:
    generated = chart.parents[1] / "crds" / NAME
    assert (chart / "files" / NAME).read_bytes() == generated.read_bytes(), "run `make crds`"


def test_rendering_adds_labels_and_the_keep_policy_and_nothing_else(
    chart: Path, render: Callable[..., list[Manifest]]
) -> None:
    (rendered,) = crds(render())
    generated = yaml.safe_load((chart / "files" / NAME).read_text())
    assert rendered["spec"] == generated["spec"]
    annotations = rendered["metadata"].pop("annotations")
    assert annotations.pop("helm.sh/resource-policy") == "keep"
    assert annotations == generated["metadata"].get("annotations", {})


def test_keep_can_be_switched_off(render: Callable[..., list[Manifest]]) -> None:
    (rendered,) = crds(render("crds.keep=false"))
    assert "helm.sh/resource-policy" not in rendered["metadata"].get("annotations", {})


def test_the_crd_can_be_left_out(render: Callable[..., list[Manifest]]) -> None:
    assert crds(render("crds.enabled=false")) == []


def test_the_crd_leaves_room_for_client_side_apply(render: Callable[..., list[Manifest]]) -> None:
    # kubectl apply without --server-side copies the object into an annotation of at most 256 KiB.
    (rendered,) = crds(render())
    assert len(yaml.safe_dump(rendered)) < 262_144
