"""API keys of the endpoints under `/v1`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from r1_runtime.errors import RequestError


class ApiKeys:
    """Accepts one of several keys. The comparison takes the same time for every key.

    Args:
        keys: accepted keys; without one, every request is accepted.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def check(self, path: str, authorization: str | None) -> None:
        """Check the header `Authorization` of a request.

        Raises:
            RequestError: 401.
        """
        if not self._digests or not _is_protected(path):
            return
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise RequestError(
                "the API key is missing or wrong; send it as Authorization: Bearer KEY",
                status=401,
                kind="authentication_error",
                param="Authorization",
                code="invalid_api_key",
            )


def _is_protected(path: str) -> bool:
    return path in ("/v1", "/sleep", "/wake_up") or path.startswith("/v1/")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
