"""`r1 leaderboard`: hands over to the board, which lives above this package and knows traces."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def dispatch(arguments: Sequence[str]) -> int:
    """Run the leaderboard with these arguments; its exit code."""
    if importlib.util.find_spec("r1_evaluation.leaderboard") is None:
        print("r1: the leaderboard is not installed here: run it from a checkout", file=sys.stderr)
        return FAILED
    # By name: the layers below know nothing of the benchmarks, and their import contract says so.
    board = importlib.import_module("r1_evaluation.leaderboard.command")
    code = board.main(list(arguments))
    return int(code or 0)
