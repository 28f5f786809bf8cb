"""The real model of the tests, SmolLM2-135M-Instruct, where its package is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1_runtime.errors import ModelLoadError
from r1_runtime.server.packaged_models import packaged_model


def smollm2_file() -> Path:
    """The GGUF file (Q4_1); skips the test where the package is missing."""
    try:
        return packaged_model("smollm2")
    except ModelLoadError as error:
        pytest.skip(str(error))
