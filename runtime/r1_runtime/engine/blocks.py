"""Pool of equal cache blocks.

Blocks are reference-counted, although each has one owner today: a prefix cache would share them.
"""

from __future__ import annotations

from collections import deque


class BlockPool:
    """Allocates block numbers 0..count-1.

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
        """Fraction of blocks in use, 0..1."""
        return 1 - len(self._free) / self.count

    def take(self, number: int) -> list[int] | None:
        """Allocate `number` blocks; return None, without a change, when there are too few."""
        if number > len(self._free):
            return None
        blocks = [self._free.popleft() for _ in range(number)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def release(self, blocks: list[int]) -> None:
        """Drop one reference per block; the tail of a sequence is reused before its head."""
        for block in reversed(blocks):
            if self._references[block] < 1:
                raise ValueError(f"block {block} is released but not in use")
            self._references[block] -= 1
            if not self._references[block]:
                self._free.append(block)

    def check_integrity(self) -> None:
        """Raise AssertionError unless every block is either free once or in use."""
        free = set(self._free)
        if len(free) != len(self._free):
            raise AssertionError("a block is free twice")
        in_use = {block for block, count in enumerate(self._references) if count > 0}
        if free & in_use or free | in_use != set(range(self.count)):
            raise AssertionError("free blocks and blocks in use do not add up")
