"""Tokenizers and chat templates of checkpoints, from any of their formats."""
