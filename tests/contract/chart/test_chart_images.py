"""Images need a registry of the site; without one the installation fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
PARTS = {
    "operator": "operator.image.repository",
    "gateway": "gateway.image.repository",
    "forecaster": "forecaster.image.repository",
    "backtest": "backtest.image.repository",
    "runtime": "runtimeImage.repository",
}
CHOSEN = ("R1_DEFAULT_IMAGE", "R1_DEFAULT_GPU_IMAGE", "R1_BACKTEST_IMAGE")
TEMPLATE = ("template", "r1", "--kube-version", "1.34.4")


def images(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        template = manifest["spec"].get("template", manifest) if "spec" in manifest else {}
        for container in template.get("spec", {}).get("containers", ()):
            yield container["image"]
            for variable in container.get("env", ()):
                if variable["name"] in CHOSEN:
                    yield variable["value"]


def test_no_default_image_has_a_registry(chart: Path) -> None:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    assert values["imageRegistry"] == ""
    for part in PARTS:
        image = values["runtimeImage"] if part == "runtime" else values[part]["image"]
        assert image["repository"] == ""
    assert values["runtimeGpuImage"]["repository"] == ""
    # Published images would stand here; there are none.
    assert "artifacthub.io/images" not in (chart / "Chart.yaml").read_text()


def test_without_a_registry_the_message_names_the_value_and_the_commands(
    helm: Callable[..., Any], chart: Path
) -> None:
    done = helm(*TEMPLATE, str(chart))
    assert done.returncode != 0
    for words in ("imageRegistry", "--set imageRegistry=", "`make images`", "docs/install.md"):
        assert words in done.stderr


@pytest.mark.parametrize("missing", PARTS)
def test_each_image_without_a_repository_is_named(
    helm: Callable[..., Any], chart: Path, missing: str
) -> None:
    given = [f"{value}=registry.example/{part}" for part, value in PARTS.items() if part != missing]
    done = helm(*TEMPLATE, str(chart), *(word for each in given for word in ("--set", each)))
    assert done.returncode != 0
    assert f"the image r1-{missing} has no registry" in done.stderr
    assert PARTS[missing] in done.stderr


def test_one_registry_gives_all_six_images(render: Callable[..., list[Manifest]]) -> None:
    image_names = set(images(render()))
    parts = [*PARTS, "runtime-cuda"]
    assert image_names == {f"registry.example/r1/r1-{part}:0.1.0" for part in parts}


def test_without_a_registry_one_runtime_image_serves_with_and_without_gpus(
    helm: Callable[..., Any], chart: Path
) -> None:
    given = [f"{value}=registry.example/{part}" for part, value in PARTS.items()]
    done = helm(*TEMPLATE, str(chart), *(word for each in given for word in ("--set", each)))
    assert done.returncode == 0, done.stderr
    assert "R1_DEFAULT_GPU_IMAGE" not in done.stdout
    given.append("runtimeGpuImage.repository=registry.example/gpu")
    done = helm(*TEMPLATE, str(chart), *(word for each in given for word in ("--set", each)))
    assert "registry.example/gpu:0.1.0" in set(images(list(yaml.safe_load_all(done.stdout))))


def test_an_image_repository_overrides_the_registry(render: Callable[..., list[Manifest]]) -> None:
    image_names = set(images(render("gateway.image.repository=other.example/gateway")))
    assert "other.example/gateway:0.1.0" in image_names
    assert "registry.example/r1/r1-operator:0.1.0" in image_names


def test_a_forecaster_that_is_off_needs_no_image(helm: Callable[..., Any], chart: Path) -> None:
    given = [f"{value}=registry.example/{part}" for part, value in PARTS.items()]
    given = [each for each in given if not each.startswith("forecaster")]
    settings = [word for each in (*given, "forecaster.enabled=false") for word in ("--set", each)]
    done = helm(*TEMPLATE, str(chart), *settings)
    assert done.returncode == 0, done.stderr
