"""The command line `r1`, also `kubectl r1` by the plugin convention of kubectl."""

from r1_operator.cli.entry import main

__all__ = ["main"]
