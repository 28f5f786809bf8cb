"""API keys: the tenant of a bearer token and its priority classes.

The file holds SHA-256 digests, never keys, so that reading it gives no access::

    {"<sha256 of the key, hex>": {"tenant": "search", "defaultClass": "Q2", "maxClass": "Q1"}}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from r1_common.contracts.priority_classes import PriorityClass, UnknownClass, parse_class
from r1_common.untrusted_json import convert_errors

_DIGEST = re.compile(r"[0-9a-f]{64}")


class InvalidKeys(ValueError):
    """The keys file cannot be used; the message names the entry and the fix."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A tenant's key: its default class, and its most urgent class."""

    tenant: str
    default_class: PriorityClass | None = None
    max_class: PriorityClass = PriorityClass.Q1


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by the SHA-256 digest of their text."""

    by_digest: Mapping[str, ApiKey]

    def find(self, authorization: bytes | None) -> ApiKey | None:
        """The key in an ``Authorization: Bearer ...`` header value, or None."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(b" ")
        token = token.strip()
        if scheme.lower() != b"bearer" or not token:
            return None
        return self.by_digest.get(hashlib.sha256(token).hexdigest())


def parse_keys(document: object) -> KeyRing:
    """Read the keys file's JSON.

    Raises:
        InvalidKeys: an entry is wrong; the digest is shortened in the message.
    """
    if not isinstance(document, dict):
        raise InvalidKeys("the keys file must be a JSON object {sha256: {tenant, ...}}")
    keys: dict[str, ApiKey] = {}
    for digest, entry in document.items():
        where = f"key {str(digest)[:8]}..."
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest.lower()):
            raise InvalidKeys(
                f"{where}: the name must be the SHA-256 of the key, 64 hexadecimal digits "
                "(printf %s KEY | sha256sum)"
            )
        if not isinstance(entry, dict):
            raise InvalidKeys(f"{where}: must be an object {{tenant, defaultClass, maxClass}}")
        unknown = set(entry) - {"tenant", "defaultClass", "maxClass"}
        if unknown:
            raise InvalidKeys(f"{where}: unknown field {min(unknown)!r}")
        tenant = entry.get("tenant")
        if not isinstance(tenant, str) or not tenant:
            raise InvalidKeys(f"{where}: tenant must be a non-empty string")
        keys[digest.lower()] = ApiKey(
            tenant=tenant,
            default_class=_class(entry, "defaultClass", where),
            max_class=_class(entry, "maxClass", where) or PriorityClass.Q1,
        )
    return KeyRing(keys)


def _class(entry: Mapping[str, object], field: str, where: str) -> PriorityClass | None:
    value = entry.get(field)
    if value is None:
        return None
    try:
        with convert_errors(UnknownClass, "a name of a class"):
            return parse_class(str(value))
    except UnknownClass as error:
        raise InvalidKeys(f"{where}: {field}: {error}") from None
