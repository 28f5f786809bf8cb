"""Whole networks and the way their checkpoints come in."""
