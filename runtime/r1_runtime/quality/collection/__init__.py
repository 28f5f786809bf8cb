"""Evaluation texts and items from the documentation on a Debian machine."""
