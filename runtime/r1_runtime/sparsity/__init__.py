"""Sparse attention: which parts of the cache a token reads. The native kernels follow these policies."""
