"""`r1 forecast-bench`: hands over to the board, which knows the forecasters; this does not."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def dispatch(arguments: Sequence[str]) -> int:
    """Score forecasters on a trace with these arguments; the exit code."""
    if importlib.util.find_spec("r1_evaluation.leaderboard") is None:
        print("r1: the board is not installed here: run it from a checkout", file=sys.stderr)
        return FAILED
    # By name: the layers below know nothing of the board, and their import contract says so.
    bench = importlib.import_module("r1_evaluation.forecast_bench.command")
    code = bench.main(list(arguments))
    return int(code or 0)
