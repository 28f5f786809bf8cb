"""Ownership of series by shards: rendezvous hashing (Thaler and Ravishankar, 1996); pure.

Each shard has a score for each series, a hash of both names. The shard with the highest score owns
the series. Shards with the same list agree without communication, and an added shard N+1 takes
1/(N+1) of the series and moves no others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from r1_common.untrusted_json import InvalidJson, parse_json

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
URL = re.compile(r"http://[^/\s]+")

Addresses = Mapping[str, str]
"""Name of each shard and its URL without a path."""


class InvalidShards(ValueError):
    """The list is invalid; the message names the entry and the fix."""


@dataclass(frozen=True, slots=True)
class Shards:
    """All shards of a release, by the list of one of them.

    ``own`` need not be in the list: a shard that is being removed owns nothing.
    """

    own: str
    addresses: Addresses

    def owner(self, series_name: str) -> str:
        """Name of the shard that owns the series."""
        return owner_of(series_name, self.addresses)

    def owns(self, series_name: str) -> bool:
        """Return whether this shard owns the series."""
        return self.owner(series_name) == self.own


def owner_of(series_name: str, names: Collection[str]) -> str:
    """Name with the highest score, in any order of ``names``, which may not be empty."""
    return max(names, key=lambda name: (_score(name, series_name), name))


def _score(name: str, series_name: str) -> int:
    # JSON can hold unpaired surrogates in a name; such a series needs an owner too.
    text = f"{name}\0{series_name}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def parse_shards(text: str) -> Addresses:
    """Parse the JSON object of names and URLs; raises ``InvalidShards``."""
    try:
        found = parse_json(text)
    except InvalidJson as error:
        raise InvalidShards(f"is not valid JSON: {error}") from error
    if not isinstance(found, dict) or not found:
        raise InvalidShards("needs to be a JSON object of at least one shard's name and URL")
    for name, url in found.items():
        if not NAME.fullmatch(name):
            raise InvalidShards(f"{name!r} needs to be a pod's name, such as r1-forecaster-0")
        if not isinstance(url, str) or not URL.fullmatch(url):
            raise InvalidShards(f"{name}: {url!r} needs to be of the form http://HOST:PORT")
    return MappingProxyType(found)
