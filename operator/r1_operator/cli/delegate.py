"""Delegation of a command to an optional package, which is imported by name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def delegate(module: str, command: str, arguments: Sequence[str]) -> int:
    """Run `module.main(command, arguments)`; its exit code, or FAILED if it is not installed."""
    # By name, because the import contract forbids an import of higher layers.
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        print(
            f"r1: {command} is not installed: pip install 'r1-inference-operator[all]'",
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
