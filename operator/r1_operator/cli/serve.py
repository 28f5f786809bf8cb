"""`r1 serve MODEL`: run the runtime on this machine, without Kubernetes."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED, OK, USAGE

EXAMPLES = """\
examples:
  r1 serve bundled:demo
  r1 serve /models/deepseek-r1 --port 8080
  r1 serve /models/deepseek-r1 -- --help     the flags of the runtime
"""


def dispatch(arguments: Sequence[str]) -> int:
    """Replace this process by the runtime; the first argument is the model, the others are passed on."""
    rest = [argument for argument in arguments if argument != "--"]
    if rest[:1] in ([], ["-h"], ["--help"]):
        print(f"usage: r1 serve MODEL [flags]\n\n{EXAMPLES}", end="")
        return OK if rest else USAGE
    if (
        importlib.util.find_spec("r1_runtime") is None
        or importlib.util.find_spec("tokenizers") is None
    ):
        print(
            "r1: the runtime is not installed: pip install 'r1-inference-operator[runtime]'",
            file=sys.stderr,
        )
        return FAILED
    command = [sys.executable, "-m", "r1_runtime.serve"]
    model = [] if rest[0].startswith("-") else ["--model-path", rest.pop(0)]
    os.execv(sys.executable, [*command, *model, *rest])  # noqa: S606
