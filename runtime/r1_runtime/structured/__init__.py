"""Constraints on output tokens: grammars, and a budget for reasoning."""
