"""`r1`: what people type. Also `kubectl r1`, by kubectl's plugin convention."""

from r1_operator.cli.entry import main

__all__ = ["main"]
