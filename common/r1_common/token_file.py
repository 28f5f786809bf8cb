"""A bearer token in a file, read for each use: Kubernetes replaces the files of a mounted Secret."""

from __future__ import annotations

import hmac
from pathlib import Path

LONGEST = 4096


class InvalidToken(ValueError):
    """The file has no usable token; the message names the file and never the token."""


def read_token(path: Path) -> str:
    """The token, without white space around it.

    Raises:
        InvalidToken: the file cannot be read, or it is empty or not printable ASCII.
    """
    try:
        data = path.read_bytes()[: LONGEST + 1]
    except OSError as error:
        raise InvalidToken(f"{path}: {error.strerror or type(error).__name__}") from None
    token = data.decode("latin-1").strip()
    if not token or len(token) > LONGEST or not (token.isascii() and token.isprintable()):
        raise InvalidToken(f"{path}: the file must hold one token of printable ASCII characters")
    return token


def is_authorized(authorization: str | None, token: str) -> bool:
    """Whether an ``Authorization`` header value is ``Bearer`` with the token, in constant time."""
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode("utf-8", "replace"), token.encode()
    )
