"""Decompression of request bodies, up to a size.

aiohttp decompresses in the event loop, and also what follows after a body was found too large: 200 KB
of gzip can block all requests for seconds.
"""

from __future__ import annotations

import zlib

from r1_runtime.errors import RequestError

MAX_BODY_BYTES = 8 * 2**20
_ENCODINGS = ("deflate", "gzip", "identity")
_AUTOMATIC = 32 + zlib.MAX_WBITS  # the headers of gzip and of zlib
_RAW = -zlib.MAX_WBITS  # deflate without a header, as some clients send it


def content_encoding(headers: list[str]) -> str:
    """The encoding that the headers `Content-Encoding` name.

    Raises:
        RequestError: 415.
    """
    encoding = ",".join(headers).strip().lower() or "identity"
    if encoding not in _ENCODINGS:
        raise RequestError(
            f"Content-Encoding {encoding[:40]!r} is not supported; use one of "
            f"{', '.join(_ENCODINGS)}",
            status=415,
            param="Content-Encoding",
        )
    return encoding


def decoded(body: bytes, encoding: str) -> bytes:
    """The decompressed body.

    Raises:
        RequestError: 400: the body is not encoded that way; 413: it is too large.
    """
    if encoding == "identity":
        return body
    window = _RAW if encoding == "deflate" and body and body[0] & 15 != 8 else _AUTOMATIC
    parts: list[bytes] = []
    size = 0
    while body:  # a gzip file may have several members
        member = zlib.decompressobj(window)
        try:
            parts.append(member.decompress(body, MAX_BODY_BYTES + 1 - size))
        except zlib.error as error:
            raise _broken(encoding) from error
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise too_large()
        if not member.eof:
            raise _broken(encoding)
        body = member.unused_data
    return b"".join(parts)


def too_large() -> RequestError:
    """The 413 error of a body."""
    message = f"the body has more than {MAX_BODY_BYTES // 2**20} MiB, decompressed"
    return RequestError(message, status=413)


def _broken(encoding: str) -> RequestError:
    return RequestError(
        f"the body cannot be decoded with Content-Encoding {encoding}", param="Content-Encoding"
    )
