"""Prediction of cache growth, for the admission of waiting sequences.

A sequence that is admitted too early is preempted later, and its tokens are computed twice. So the
scheduler admits one only when the blocks of all running sequences are expected to fit until they end.
The expectation needs output lengths, which are learned from the sequences that ended last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

_SAMPLES = 64
_ASSUMED_TOKENS = 256
_EXAMINED_ENDS = 16


class OutputLengths:
    """Output lengths of the last 64 ended sequences.

    An output that ended at its own limit shows only that the length is at least the limit.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[int, bool]] = deque(maxlen=_SAMPLES)

    def note(self, generated: int, *, limited: bool) -> None:
        """Add an ended output of `generated` tokens; `limited`: it ended at its limit."""
        self._recent.append((generated, limited))

    def remaining(self, generated: int, limit: int) -> int:
        """Expected number of further tokens of an output, from 1 to its limit.

        The mean of the outputs that were longer, and of one assumed output: it is twice as long as
        this one is now, and 256 tokens longer at least.
        """
        assumed = max(2 * generated, generated + _ASSUMED_TOKENS)
        lengths = [
            length
            for length, limited in self._recent
            if length > generated and (length >= limit or not limited)
        ]
        lengths.append(assumed)
        mean = sum(min(length, limit) for length in lengths) / len(lengths)
        return max(1, round(mean) - generated)


@dataclass(frozen=True, slots=True)
class Growth:
    """Expected growth of a sequence.

    Attributes:
        length: its tokens now.
        remaining: tokens until its end.
        blocks: its cache blocks.
        own: those of them that no other sequence uses; they are free after its end.
    """

    length: int
    remaining: int
    blocks: int
    own: int

    def added(self, tokens: int, block_size: int) -> int:
        """Blocks to add for `tokens` more tokens."""
        return max(0, -(-(self.length + tokens) // block_size) - self.blocks)


def growth_fits(in_use: int, count: int, growths: Iterable[Growth], block_size: int) -> bool:
    """Whether all sequences can grow to their ends in a cache of `count` blocks.

    All sequences get tokens at the same rate, and their own blocks are free after their end. The
    largest sum of blocks is reached just before one of the ends. At most 16 ends are examined.

    Args:
        in_use: blocks in use now, those of the sequences included.
        count: blocks of the cache.
        growths: the running sequences.
        block_size: tokens per block.
    """
    ordered = sorted(growths, key=lambda growth: growth.remaining)
    stride = -(-len(ordered) // _EXAMINED_ENDS)
    freed = 0
    for index, ending in enumerate(ordered):
        if index % stride == 0:
            alive = ordered[index:]
            added = sum(growth.added(ending.remaining, block_size) for growth in alive)
            if in_use + added - freed > count:
                return False
        freed += ending.own
    return True
