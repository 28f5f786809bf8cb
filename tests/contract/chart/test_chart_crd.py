"""The chart's CRDs are the generated ones, and stay when the chart goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
NAMES = ("deepseek.ai_r1inferences.yaml", "deepseek.ai_r1backtests.yaml")


def crds(manifests: list[Manifest]) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == "CustomResourceDefinition"]


def test_the_charts_copy_is_the_generated_file(chart: Path) -> None:
    assert {file.name for file in (chart / "files").iterdir()} == set(NAMES)
    for name in NAMES:
        generated = chart.parents[1] / "crds" / name
        assert (chart / "files" / name).read_bytes() == generated.read_bytes(), "run `make crds`"


def test_rendering_adds_labels_and_the_keep_policy_and_nothing_else(
    chart: Path, render: Callable[..., list[Manifest]]
) -> None:
    by_name = {rendered["metadata"]["name"]: rendered for rendered in crds(render())}
    assert len(by_name) == len(NAMES)
    for name in NAMES:
        generated = yaml.safe_load((chart / "files" / name).read_text())
        rendered = by_name[generated["metadata"]["name"]]
        assert rendered["spec"] == generated["spec"]
        annotations = dict(rendered["metadata"]["annotations"])
        assert annotations.pop("helm.sh/resource-policy") == "keep"
        assert annotations == generated["metadata"].get("annotations", {})


def test_keep_can_be_switched_off(render: Callable[..., list[Manifest]]) -> None:
    for rendered in crds(render("crds.keep=false")):
        assert "helm.sh/resource-policy" not in rendered["metadata"].get("annotations", {})


def test_the_crd_can_be_left_out(render: Callable[..., list[Manifest]]) -> None:
    assert crds(render("crds.enabled=false")) == []


def test_the_crd_leaves_room_for_client_side_apply(render: Callable[..., list[Manifest]]) -> None:
    # kubectl apply without --server-side copies the object into an annotation of at most 256 KiB.
    for rendered in crds(render()):
        assert len(yaml.safe_dump(rendered)) < 262_144
