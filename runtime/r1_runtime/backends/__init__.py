"""Computation of a step: `reference` (torch, the oracle), `cpu` (native library), `cuda` (Triton)."""
