"""The CPU backend: one native call per step. Imports neither torch nor a compiler."""
