"""Parsed requests: checks beyond the parser's, and the head of the request to the pod.

The parser (llhttp, strict) rejects the means of request smuggling: ``Content-Length`` beside
``Transfer-Encoding``, repeated or malformed lengths, folded headers, bare line feeds, NULs.  This
module also requires one ``Host`` and HTTP/1.0 or 1.1, and rejects ``Transfer-Encoding`` on 1.0 or
other than ``chunked``.  The request to the pod gets a new head with its own length, so an ambiguous
end of a request is never passed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from r1_gateway.http.errors import ApiError, bad_request
from r1_gateway.http.response_head import parse_length

_PRIVATE = frozenset(
    (
        b"connection", b"content-length", b"expect", b"host", b"keep-alive", b"proxy-authenticate",
        b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade", b"x-request-id", b"x-r1-class", b"x-r1-priority",
    )
)  # fmt: skip
_PRIVATE_WITH_KEY = _PRIVATE | {b"authorization"}
_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class HttpRequest:
    """Method, target, headers (lower case, in order; ``first`` of each name) and body."""

    method: bytes
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    first: dict[bytes, bytes]
    keep_alive: bool
    body: bytes = b""
    charged: int = 0
    """Bytes of the request that are charged to the byte budget."""

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    def header(self, name: bytes) -> bytes | None:
        """First value of a header (name in lower case), or None."""
        return self.first.get(name)


def origin_form(target: bytes) -> bytes:
    """Path and query of a target that may be a whole URL (RFC 9112, 3.2.2)."""
    authority = _AUTHORITY.match(target)
    if authority is None:
        return target
    rest = target[authority.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def check_head(request: HttpRequest, max_body_bytes: int) -> int | None:
    """Check the head; returns the declared body length, None when chunked or absent.

    Raises:
        ApiError: 400, 413, 415, 501 or 505.
    """
    if request.version not in ("1.1", "1.0"):
        raise ApiError(
            505,
            "invalid_request_error",
            "http_version",
            f"HTTP/{request.version} is not supported: use HTTP/1.1",
        )
    first = request.first  # the parser rejects a second Content-Length or Transfer-Encoding
    coding = first.get(b"transfer-encoding")
    if coding is not None:
        if request.version == "1.0":
            raise bad_request(
                "Transfer-Encoding is not part of HTTP/1.0: use Content-Length or HTTP/1.1"
            )
        if coding.lower() != b"chunked":
            raise ApiError(
                501,
                "invalid_request_error",
                "transfer_encoding",
                "Transfer-Encoding supports chunked only",
            )
    if b"host" not in first and request.version == "1.1":
        raise bad_request("a request needs exactly one Host header")
    if len(first) < len(request.headers) and sum(h[0] == b"host" for h in request.headers) > 1:
        raise bad_request("a request needs exactly one Host header")
    encoding = first.get(b"content-encoding")
    if encoding and encoding.strip().lower() not in (b"", b"identity"):
        raise ApiError(
            415,
            "invalid_request_error",
            "content_encoding",
            f"Content-Encoding {encoding[:40].decode('latin-1')!r} is not supported: "
            "send the body uncompressed",
            headers=b"accept-encoding: identity\r\n",
        )
    declared = first.get(b"content-length")
    length: int | None = None
    if declared is not None:
        length = int(declared) if len(declared) < 20 else parse_length(declared)
    if length is not None and length > max_body_bytes:
        raise body_too_large(max_body_bytes)
    return length


def body_too_large(max_body_bytes: int) -> ApiError:
    """413, with the limit."""
    return ApiError(
        413,
        "invalid_request_error",
        "request_too_large",
        f"the request body is larger than {max_body_bytes} bytes (--max-body-bytes)",
    )


def build_upstream_head(
    request: HttpRequest,
    address: str,
    body_bytes: int,
    request_id: bytes,
    klass: bytes,
    *,
    forward_key: bool,
) -> bytes:
    """Head of the request to the pod: same target and headers, new connection headers.

    ``x-r1-priority`` is the class of the request, named by the client or not.

    ``forward_key`` passes ``Authorization`` on, for engines that check keys themselves.  Keys that the
    gateway checks are not forwarded.
    """
    private = _PRIVATE if forward_key else _PRIVATE_WITH_KEY
    if b"connection" in request.first:
        for name, value in request.headers:
            if name == b"connection" and value.lower() != b"keep-alive":
                private = private | {token.strip().lower() for token in value.split(b",")}
    lines = [b": ".join(field) for field in request.headers if field[0] not in private]
    lines.append(b"\r\n")
    return (
        b"%s %s HTTP/1.1\r\nhost: %s\r\nx-request-id: %s\r\nx-r1-priority: %s\r\ncontent-length: %d\r\n%s"
        % (
            request.method,
            request.target,
            address.encode(),
            request_id,
            klass,
            body_bytes,
            b"\r\n".join(lines),
        )
    )
