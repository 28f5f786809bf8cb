"""The CRDs of the chart are the generated ones, and stay after an uninstall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
NAMES = ("deepseek.ai_r1inferences.yaml", "deepseek.ai_r1backtests.yaml")


def crds(manifests: list[Manifest]) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == "CustomResourceDefinition"]


def test_the_chart_has_a_copy_of_the_generated_crd(chart: Path) -> None:
    assert {file.name for file in (chart / "files").iterdir()} == set(NAMES)
    for name in NAMES:
        generated = chart.parents[1] / "crds" / name
        assert (chart / "files" / name).read_bytes() == generated.read_bytes(), "run `make crds`"


def test_crd_template_adds_only_labels_and_the_keep_policy(
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


def test_the_keep_policy_of_crds_can_be_disabled(render: Callable[..., list[Manifest]]) -> None:
    for rendered in crds(render("crds.keep=false")):
        assert "helm.sh/resource-policy" not in rendered["metadata"].get("annotations", {})


def test_crds_can_be_disabled(render: Callable[..., list[Manifest]]) -> None:
    assert crds(render("crds.enabled=false")) == []


def test_the_crd_fits_client_side_apply(render: Callable[..., list[Manifest]]) -> None:
    # kubectl apply without --server-side copies the object into an annotation of at most 256 KiB.
    for rendered in crds(render()):
        assert len(yaml.safe_dump(rendered)) < 262_144
