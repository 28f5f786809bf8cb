"""Which shard owns a subject: rendezvous hashing, pure.

Each shard has a score for each subject, a hash of both names, and the highest owns it. So all who
know the same names agree without talking, and a name that comes or goes moves only what it wins or
leaves: 1/(N+1) of the subjects when shard N+1 comes (Thaler and Ravishankar, 1996).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from r1_common.foreign_json import InvalidJson, parse_json

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
URL = re.compile(r"http://[^/\s]+")

Addresses = Mapping[str, str]
"""Name of each shard and the URL that it answers at, without a path."""


class InvalidShards(ValueError):
    """The list cannot be used; the message names the entry and the fix."""


@dataclass(frozen=True, slots=True)
class Shards:
    """All shards of a release as one of them sees them.

    ``own`` need not be among the names: a shard that is being taken away owns nothing.
    """

    own: str
    addresses: Addresses

    def owner(self, series_name: str) -> str:
        """The name of the one shard that keeps this subject."""
        return owner_of(series_name, self.addresses)

    def owns(self, series_name: str) -> bool:
        """Whether this shard keeps it."""
        return self.owner(series_name) == self.own


def owner_of(series_name: str, names: Collection[str]) -> str:
    """The name with the highest score, whatever their order; ``names`` may not be empty."""
    return max(names, key=lambda name: (_score(name, series_name), name))


def _score(name: str, series_name: str) -> int:
    # JSON can bring halves of characters in a subject; they need an owner like any other.
    text = f"{name}\0{series_name}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def parse_shards(text: str) -> Addresses:
    """Parse the JSON object of names and URLs; raises ``InvalidShards``."""
    try:
        found = parse_json(text)
    except InvalidJson as error:
        raise InvalidShards(f"cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise InvalidShards("needs to be a JSON object of at least one shard's name and URL")
    for name, url in found.items():
        if not NAME.fullmatch(name):
            raise InvalidShards(f"{name!r} needs to be a pod's name, such as r1-forecaster-0")
        if not isinstance(url, str) or not URL.fullmatch(url):
            raise InvalidShards(f"{name}: {url!r} needs to be of the form http://HOST:PORT")
    return MappingProxyType(found)
