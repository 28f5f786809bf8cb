"""`r1 backtest`: hands over to the program that knows traces; this package does not."""

from __future__ import annotations

from collections.abc import Sequence

from r1_operator.cli.delegate import delegate


def dispatch(arguments: Sequence[str]) -> int:
    """Run it with these arguments; its exit code."""
    return delegate("r1_evaluation.backtest.program", "backtest", arguments)
