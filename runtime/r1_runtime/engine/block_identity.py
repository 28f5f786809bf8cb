"""Identity of a full cache block: its tokens and all tokens before it.

A block can be reused by a sequence with the same tokens up to the block's end, because the cached
values depend on those tokens only. The digests form a chain, so one dictionary access finds a block.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Tokens
from hashlib import blake2b


def content_digest(parent: bytes, tokens: Tokens[int]) -> bytes:
    """Digest of 16 bytes of a block's tokens after a parent's digest, equal in every process."""
    return blake2b(array("q", tokens).tobytes(), digest_size=16, key=parent).digest()


def _salt_digest(salt: str) -> bytes:
    return blake2b(salt.encode(), digest_size=16).digest()


class BlockIdentity:
    """Tokens of one block, and the identity of the block before it.

    Two identities are equal when all tokens and the salt are equal. The digest only speeds up the
    comparison: a collision cannot make two texts equal. Both chains are compared until they meet in
    one object, so `parent` should be an object from the pool where the pool has an equal one.

    Args:
        parent: the identity of the block before, or None for the first block.
        tokens: the block's tokens.
        salt: separates the caches of tenants; of the first block only.
    """

    __slots__ = ("_hash", "digest", "parent", "salt", "tokens")

    def __init__(self, parent: BlockIdentity | None, tokens: Tokens[int], salt: str = "") -> None:
        self.parent = parent
        self.tokens = tuple(tokens)
        self.salt = salt
        before = _salt_digest(salt) if parent is None else parent.digest
        self.digest: bytes = content_digest(before, self.tokens)
        self._hash = hash(self.digest)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BlockIdentity):
            return NotImplemented
        one: BlockIdentity | None = self
        two: BlockIdentity | None = other
        while one is not two:
            if one is None or two is None:
                return False
            if one.digest != two.digest or one.tokens != two.tokens or one.salt != two.salt:
                return False
            one, two = one.parent, two.parent
        return True

    def __repr__(self) -> str:
        return f"BlockIdentity({self.digest.hex()[:12]}, {len(self.tokens)} tokens)"
