"""Philox4x32-10 (Salmon et al. 2011): a counter-based random generator.

A draw is a function of key and counter, so it depends neither on the batch nor on earlier draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_WORD = np.uint64(32)
Words = NDArray[np.uint64]


def philox(key: tuple[Words, Words], counter: tuple[Words, Words, Words, Words]) -> list[Words]:
    """Four output words of 32 bits per row; all inputs are [S] words of 32 bits in uint64."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (second >> _WORD) ^ c1 ^ k0,
            second & _LOW,
            (first >> _WORD) ^ c3 ^ k1,
            first & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return [c0, c1, c2, c3]


def uniform(seeds: Words, positions: Words) -> NDArray[np.float64]:
    """One number in [0, 1) with 53 random bits per row, from seed [S] and position [S]."""
    zero = np.zeros_like(seeds)
    key = (seeds & _LOW, seeds >> _WORD)
    first, second, _, _ = philox(key, (positions & _LOW, positions >> _WORD, zero, zero))
    high = (first >> np.uint64(5)).astype(np.float64)
    low = (second >> np.uint64(6)).astype(np.float64)
    return np.asarray((high * 2.0**26 + low) / 2.0**53)
