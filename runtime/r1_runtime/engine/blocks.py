"""Pool of equal cache blocks with a prefix cache.

A block is in one of three states. In use: sequences refer to it. Cached: no sequence refers to it, but
its content has an identity and may be used again. Empty: no reference and no identity. Allocation
takes empty blocks first, then the cached block that has been without a reference for the longest
time. A sequence releases its tail before its head, so the head of a prefix stays longer.

Two sequences may compute the same content at the same time. The first block to be registered is found
from then on. The other one stays with its sequence, without an identity, and is empty at its release:
the block table of a running sequence only grows, it never changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from r1_runtime.engine.block_identity import BlockIdentity


class BlockPool:
    """Allocates block numbers 0..count-1 and finds blocks by content.

    Args:
        count: blocks in the cache.
        block_size: tokens per block.
    """

    def __init__(self, count: int, block_size: int) -> None:
        if count < 1 or block_size < 1:
            raise ValueError("a block pool needs at least one block of at least one token")
        self.count = count
        self.block_size = block_size
        self._empty = deque(range(count))
        self._cached: dict[int, None] = {}  # in order of their release, the oldest first
        self._references = [0] * count
        self._identities: list[BlockIdentity | None] = [None] * count
        self._blocks: dict[BlockIdentity, int] = {}

    @property
    def free(self) -> int:
        """Blocks that can be allocated: empty and cached ones."""
        return len(self._empty) + len(self._cached)

    @property
    def cached(self) -> int:
        """Blocks without a reference whose content can still be used."""
        return len(self._cached)

    @property
    def usage(self) -> float:
        """Fraction of blocks in use, 0..1. Cached blocks are not in use."""
        return 1 - self.free / self.count

    def references(self, block: int) -> int:
        """Number of sequences that use the block."""
        return self._references[block]

    def find(self, identity: BlockIdentity) -> int | None:
        """The block with this content, or None."""
        return self._blocks.get(identity)

    def identity(self, block: int) -> BlockIdentity | None:
        """The registered content of a block, or None."""
        return self._identities[block]

    def available(self, shared: Sequence[int] = ()) -> int:
        """Blocks that can be allocated beside the use of the blocks `shared`."""
        return self.free - sum(not self._references[block] for block in shared)

    def take(self, number: int, shared: Sequence[int] = ()) -> list[int] | None:
        """Refer to the blocks `shared` and allocate `number` others.

        Args:
            number: blocks to allocate.
            shared: blocks that `find` returned, each at most once.

        Returns:
            The shared blocks and then the allocated ones; None, without a change, when there are too
            few blocks.
        """
        if number > self.available(shared):
            return None
        for block in shared:
            self._references[block] += 1
            self._cached.pop(block, None)
        return [*shared, *(self._allocate() for _ in range(number))]

    def _allocate(self) -> int:
        if self._empty:
            block = self._empty.popleft()
        else:
            block = next(iter(self._cached))
            del self._cached[block]
            self._drop_identity(block)
        self._references[block] = 1
        return block

    def register(self, block: int, identity: BlockIdentity) -> BlockIdentity:
        """Make the content of a block in use known.

        Returns:
            The identity that the pool knows for this content. It belongs to another block when that
            one was registered before.
        """
        if not self._references[block]:
            raise ValueError(f"block {block} is registered but not in use")
        known = self._blocks.get(identity)
        if known is None:
            self._drop_identity(block)
            self._blocks[identity] = block
            self._identities[block] = identity
            return identity
        return self._identities[known] or identity

    def forget(self, blocks: Sequence[int]) -> None:
        """Remove the content of blocks from the cache; sequences that use them keep them."""
        for block in blocks:
            self._drop_identity(block)
            if block in self._cached:
                del self._cached[block]
                self._empty.append(block)

    def _drop_identity(self, block: int) -> None:
        identity = self._identities[block]
        if identity is not None:
            del self._blocks[identity]
            self._identities[block] = None

    def release(self, blocks: Sequence[int]) -> None:
        """Drop one reference per block; the tail of a sequence is reused before its head."""
        for block in reversed(blocks):
            if self._references[block] < 1:
                raise ValueError(f"block {block} is released but not in use")
            self._references[block] -= 1
            if self._references[block]:
                continue
            if self._identities[block] is None:
                self._empty.append(block)
            else:
                self._cached[block] = None

    def check_integrity(self) -> None:
        """Raise AssertionError unless every block is in exactly one state and found by its content."""
        states = [*self._empty, *self._cached]
        states += [block for block, count in enumerate(self._references) if count > 0]
        if sorted(states) != list(range(self.count)):
            raise AssertionError("empty blocks, cached blocks and blocks in use do not add up")
        known = {block: identity for identity, block in self._blocks.items()}
        registered = {
            block: identity
            for block, identity in enumerate(self._identities)
            if identity is not None
        }
        if known != registered:
            raise AssertionError("identities and blocks do not correspond")
        if any(block not in registered for block in self._cached):
            raise AssertionError("a cached block has no identity")
        if any(block in registered for block in self._empty):
            raise AssertionError("an empty block has an identity")
