"""The cache as a pool of equal blocks; which sequence holds which is all that is known here.

Blocks are counted by reference, although each has one holder so far: a prefix cache shares them.
"""

from __future__ import annotations

from collections import deque


class BlockPool:
    """Hands out block numbers 0..count-1.

    Args:
        count: blocks in the cache.
        block_size: tokens per block.
    """

    def __init__(self, count: int, block_size: int) -> None:
        if count < 1 or block_size < 1:
            raise ValueError("a block pool needs at least one block of at least one token")
        self.count = count
        self.block_size = block_size
        self._free = deque(range(count))
        self._references = [0] * count

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def usage(self) -> float:
        """The share of blocks in use, 0..1."""
        return 1 - len(self._free) / self.count

    def take(self, number: int) -> list[int] | None:
        """`number` fresh blocks, or None and nothing changed when there are too few."""
        if number > len(self._free):
            return None
        blocks = [self._free.popleft() for _ in range(number)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def release(self, blocks: list[int]) -> None:
        """Give up one reference on each; the tail of a sequence is reused before its head."""
        for block in reversed(blocks):
            if self._references[block] < 1:
                raise ValueError(f"block {block} is released but not held")
            self._references[block] -= 1
            if not self._references[block]:
                self._free.append(block)

    def check_integrity(self) -> None:
        """Raise AssertionError unless every block is either free once or held."""
        free = set(self._free)
        if len(free) != len(self._free):
            raise AssertionError("a block is free twice")
        held = {block for block, count in enumerate(self._references) if count > 0}
        if free & held or free | held != set(range(self.count)):
            raise AssertionError("free and held blocks do not add up")
