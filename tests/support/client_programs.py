"""Clients that other projects wrote, each as a program of the environment that `make test-clients` makes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"
SECONDS = 900  # importing torch on a busy machine


def run_client(folder: Path, *arguments: str | Path) -> str:
    """What a client's Python prints with these arguments; nothing is downloaded.

    Args:
        folder: its working directory and cache.
        arguments: of the interpreter.
    """
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    own = {"HF_HOME": str(folder / "cache"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [PYTHON, *arguments],
        cwd=folder,
        env=os.environ | offline | own,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    return output
