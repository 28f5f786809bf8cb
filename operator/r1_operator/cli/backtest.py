"""`r1 backtest`: hands over to the program that knows traces; this package does not."""

from __future__ import annotations

from collections.abc import Sequence

from r1_operator.cli.on_top import run_on_top


def dispatch(arguments: Sequence[str]) -> int:
    """Run it with these arguments; its exit code."""
    return run_on_top("r1_evaluation.backtest.command", "backtest", arguments)
