"""JSON body of an HTTP response; a failure has the status and the content type."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from r1_common.untrusted_json import MAX_BYTES, InvalidJson, parse_json


def read_json(status: int, content_type: str, body: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """Parse ``body``.

    Raises:
        InvalidJson: "answered 502 Bad Gateway (text/html): ..."; the caller adds the subject.
    """
    try:
        return parse_json(body, max_bytes=max_bytes)
    except InvalidJson as error:
        kind = content_type.partition(";")[0].strip() or "no content type"
        kind = "".join(c if c.isprintable() else "?" for c in kind)[:100]
        raise InvalidJson(
            f"answered {status_text(status)} ({kind}): {_cause(error, body)}"
        ) from None


def status_text(status: int) -> str:
    """The status with its phrase, such as "401 Unauthorized"."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _cause(error: InvalidJson, body: bytes) -> str:
    if not body.strip():
        return "the body is empty"
    # The parser's "Expecting value: line 1 column 1" does not help the reader.
    if str(error).startswith("not JSON"):
        return f"the body of {len(body)} bytes is not JSON"
    return str(error)
