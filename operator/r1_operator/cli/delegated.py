"""Commands of other programs. Their arguments are passed on unchanged.

The programs are named by text, because the import contract forbids an import of higher layers.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED, OK, USAGE

_INSTALL_ALL = "pip install 'r1-inference-operator[all]'"
_INSTALL_RUNTIME = "pip install 'r1-inference-operator[runtime]'"
_CHECKOUT = "run it from a checkout of the repository"

FUNCTIONS = {
    "backtest": ("r1_evaluation.backtest.command", _INSTALL_ALL),
    "whatif": ("r1_evaluation.backtest.command", _INSTALL_ALL),
    "demo": ("r1_demo.__main__", _CHECKOUT),
    "leaderboard": ("r1_evaluation.leaderboard.command", _CHECKOUT),
    "forecast-bench": ("r1_evaluation.forecast_bench.command", _CHECKOUT),
}
"""Module with the function `main`, and how to install it."""
PROCESSES = {"serve": "r1_runtime.serve", "tune": "r1_runtime.tune"}
"""Programs of the runtime, which replace this process."""
_TWO_COMMANDS = "r1_evaluation.backtest.command"  # its `main` takes the command's name first

SERVE_HELP = """\
usage: r1 serve MODEL [flags]

examples:
  r1 serve bundled:demo
  r1 serve /models/deepseek-r1 --port 8080
  r1 serve /models/deepseek-r1 -- --help     the flags of the runtime
"""


def dispatch(command: str, arguments: Sequence[str]) -> int:
    """Run the program of a command; its exit code, or FAILED if it is not installed."""
    if command in PROCESSES:
        return _replace_process(command, arguments)
    module, install = FUNCTIONS[command]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return _missing(f"{command} is not installed", install)
    try:
        program = importlib.import_module(module)
    except ModuleNotFoundError as error:
        return _missing(f"{command} needs {error.name}", install)
    given = list(arguments)
    code = program.main(command, given) if module == _TWO_COMMANDS else program.main(given)
    return int(code or 0)


def _replace_process(command: str, arguments: Sequence[str]) -> int:
    given = list(arguments)
    if command == "serve":
        given = [argument for argument in given if argument != "--"]
        if given[:1] in ([], ["-h"], ["--help"]):
            print(SERVE_HELP, end="")
            return OK if given else USAGE
        if not given[0].startswith("-"):
            given.insert(0, "--model-path")
    if any(importlib.util.find_spec(name) is None for name in ("r1_runtime", "tokenizers")):
        return _missing("the runtime is not installed", _INSTALL_RUNTIME)
    os.execv(sys.executable, [sys.executable, "-m", PROCESSES[command], *given])  # noqa: S606


def _missing(what: str, install: str) -> int:
    print(f"r1: {what}: {install}", file=sys.stderr)
    return FAILED
