"""Formats of the model's output that the command line chooses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParserOptions:
    """Formats that the command line chooses; `auto` means by the chat template."""

    tool_call_parser: str = "auto"
    reasoning_parser: str = "auto"
