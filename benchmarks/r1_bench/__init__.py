"""Benchmarks: ratios against a peer in the same interleaved run, losing rows too."""
