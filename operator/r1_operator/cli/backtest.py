"""`r1 backtest`: delegates to `r1_evaluation.backtest`."""

from __future__ import annotations

from collections.abc import Sequence

from r1_operator.cli.delegate import delegate


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command; its exit code."""
    return delegate("r1_evaluation.backtest.command", "backtest", arguments)
