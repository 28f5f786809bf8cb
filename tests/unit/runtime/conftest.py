"""A tiny untrained checkpoint, written once for all tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from r1_runtime.training.random_model import write_random_model


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """One torch thread: for tiny matrices a second one is slower on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-model")
    write_random_model(folder)
    return folder
