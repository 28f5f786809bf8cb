"""Continuous batching: sequences, blocks and the scheduler (pure), the runner (torch), the loop."""
