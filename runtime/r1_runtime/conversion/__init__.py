"""Conversions of a checkpoint into another one.

    python -m r1_runtime.conversion.mixture --model bundled:smollm2 --experts 24 --out DIR

The server imports nothing of this package.
"""
