"""`r1 tune MODEL`: measure techniques on a model, by the runtime in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED

EXAMPLES = """\
examples:
  r1 tune bundled:smollm2 --budget quality=0.5%
  r1 tune /models/r1 --text my-prompts.txt --out tuned.yaml
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Replace this process by the runtime's `tune`; all arguments are passed on."""
    if importlib.util.find_spec("r1_runtime") is None:
        print(
            "r1: the runtime is not installed: pip install 'r1-inference-operator[runtime]'",
            file=sys.stderr,
        )
        return FAILED
    command = [sys.executable, "-m", "r1_runtime.tune", *arguments]
    os.execv(sys.executable, command)  # noqa: S606
