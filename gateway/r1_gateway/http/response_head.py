"""Response heads: the pod's head with added lines, and heads of the gateway's own responses.

Of a pod's response, only the head is edited.  Headers that belong to the connection to the pod are
removed; they are rare (a closing pod), and only then the head is rebuilt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from r1_gateway.http.errors import ApiError

# Headers that belong to one connection, or that the gateway sets.
_UNWANTED = (
    b"connection:", b"keep-alive:", b"proxy-connection:", b"upgrade:",
    b"x-request-id:", b"x-r1-queue-ms:", b"x-r1-class:", b"access-control-",
)  # fmt: skip
_ANY_UNWANTED = re.compile(b"\n(?:" + b"|".join(_UNWANTED) + b")")
_EVENT_STREAM = re.compile(rb"\ncontent-type:[ \t]*text/event-stream[ \t]*[;\r]")

# Browsers give a response to a page of another origin only with these.
CROSS_ORIGIN = (
    b"access-control-allow-origin: *\r\n"
    b"access-control-expose-headers: x-request-id, x-r1-queue-ms, x-r1-class, x-r1-requested-class, "
    b"retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-reset-tokens\r\n"
)

# nginx buffers a response of unknown length unless a header forbids that.
_UNBUFFERED = b"x-accel-buffering: no\r\n"
_UNCACHED = b"cache-control: no-cache\r\n"


@dataclass(slots=True)  # not frozen: made for each request, and freezing doubles the cost
class HeadFacts:
    """Facts of a response head that the relay needs."""

    lower: bytes
    is_event_stream: bool
    is_chunked: bool
    content_length: int | None

    @property
    def ends_at_close(self) -> bool:
        """Only the end of the connection ends the body (as in HTTP/1.0)."""
        return not self.is_chunked and self.content_length is None

    def header(self, name: bytes) -> bytes | None:
        """Value of a header, in lower case, or None; ``name`` in lower case."""
        start = self.lower.find(b"\n" + name + b":")
        if start < 0:
            return None
        start += len(name) + 2
        return self.lower[start : self.lower.index(b"\r", start)].strip()


def read_head(head: bytes) -> HeadFacts:
    """Facts of a head (status line to blank line) that the parser has accepted."""
    lower = head.lower()
    length: int | None = None
    at = lower.find(b"\ncontent-length:")
    if at >= 0:
        digits = lower[at + 16 : lower.index(b"\r", at)]
        length = int(digits) if len(digits) < 20 else parse_length(digits)
    is_event_stream = b"text/event-stream" in lower and _EVENT_STREAM.search(lower) is not None
    return HeadFacts(lower, is_event_stream, b"\ntransfer-encoding:" in lower, length)


def is_failure(status: int) -> bool:
    """Whether a response counts as a failure of the pod; a client error does not."""
    return status >= 500 or status == 429


def parse_length(digits: bytes) -> int:
    """A ``Content-Length`` that the parser has accepted: digits, with any number of leading zeros."""
    return int(digits.strip().lstrip(b"0")[:20] or b"0")


def stream_headers(facts: HeadFacts) -> bytes:
    """Header lines that keep proxies from buffering an event stream."""
    lines = b"" if b"\nx-accel-buffering:" in facts.lower else _UNBUFFERED
    return lines if b"\ncache-control:" in facts.lower else lines + _UNCACHED


def edit_head(head: bytes, facts: HeadFacts, extra: bytes, *, dechunk: bool = False) -> bytes:
    """``head`` (status line to blank line) with ``extra`` (lines, each ending in CRLF) added.

    ``dechunk`` drops ``Transfer-Encoding``, for a client that cannot read chunks.
    """
    if not dechunk and _ANY_UNWANTED.search(facts.lower) is None:
        return b"%s%s\r\n" % (head[:-2], extra)
    unwanted = (*_UNWANTED, b"transfer-encoding:") if dechunk else _UNWANTED
    lines = head[:-4].split(b"\r\n")
    wanted = [line for line in lines if not line.lower().startswith(unwanted)]
    return b"\r\n".join(wanted) + b"\r\n" + extra + b"\r\n"


def json_response(status: int, body: bytes, extra: bytes = b"") -> bytes:
    """A whole JSON response of the gateway."""
    phrase = _PHRASES.get(status, b"")
    return b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n%s" % (
        status,
        phrase,
        len(body),
        extra,
        body,
    )


def error_response(error: ApiError, retry_after: int | None, extra: bytes = b"") -> bytes:
    """An :class:`ApiError` as a response; ``retry_after`` in whole seconds, jitter included."""
    if retry_after is not None:
        extra += b"retry-after: %d\r\n" % retry_after
    return json_response(error.status, error.body(), extra + error.headers)


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
