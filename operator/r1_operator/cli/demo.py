"""`r1 demo`: hands over to the demo, which knows about clusters; this package does not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def dispatch(arguments: Sequence[str]) -> int:
    """Run the demo with these arguments; its exit code."""
    if importlib.util.find_spec("r1_demo") is None:
        print("r1: the demo is not installed here: run it from a checkout", file=sys.stderr)
        return FAILED
    # By name: the layers below know nothing of the demo, and their import contract says so.
    demo = importlib.import_module("r1_demo.__main__")
    code = demo.main(list(arguments))
    return int(code or 0)
