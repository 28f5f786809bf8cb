"""Commands whose code sits on top of this package, which does not know it: found by name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def delegate(module: str, command: str, arguments: Sequence[str]) -> int:
    """Run `module.main(command, arguments)`; its exit code, FAILED where it is not installed."""
    # By name: the layers below know nothing of those above, and their import contract says so.
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        print(
            f"r1: {command} is not installed here: pip install 'r1-inference-operator[all]'",
            file=sys.stderr,
        )
        return FAILED
    try:
        program = importlib.import_module(module)
    except ModuleNotFoundError as error:
        print(
            f"r1: {command} needs {error.name}: pip install 'r1-inference-operator[all]'",
            file=sys.stderr,
        )
        return FAILED
    return int(program.main(command, list(arguments)) or 0)
