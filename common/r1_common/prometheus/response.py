"""Parsing of responses of Prometheus' query API: a result, or a failure with HTTP status and cause.

https://prometheus.io/docs/prometheus/latest/querying/api/. The server at the URL may not be
Prometheus: a proxy requires a login, a load balancer returns an HTML page, a store returns partial
data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from r1_common.http_json import read_json, status_text
from r1_common.untrusted_json import MAX_BYTES, InvalidJson, parse_json

MAX_RESPONSE_BYTES: Final = MAX_BYTES
_EXCERPT: Final = 300


class FailureKind(Enum):
    """Cause of a failed query; it decides whether a retry may succeed."""

    UNREACHABLE = auto()
    """No response, a timeout, a TLS failure, 429 or 5xx."""
    DENIED = auto()
    """401, 403, a redirect, an HTML page, or another status of a server that is not Prometheus."""
    QUERY = auto()
    """Prometheus rejects the query (400, 422)."""
    INVALID = auto()
    """200 with a body that is not a response of the query API."""
    CONFIG = auto()
    """A credential or TLS file of the client cannot be used."""


class PrometheusError(Exception):
    """A failed query; the message has URL, HTTP status and cause, and no secret."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class QueryResult:
    """``data`` of a successful response.

    ``partial`` has the warnings about missing data. With such a warning, the result of a sum or count
    is a lower bound. Warnings of the PromQL engine about the query are not included.
    """

    result_type: str
    result: Any
    partial: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response; ``body`` has at most ``MAX_RESPONSE_BYTES`` + 1 bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header, case-insensitive; empty without one."""
        return next((v for k, v in self.headers.items() if k.lower() == name), "")


def read_response(url: str, response: HttpResponse, secrets: Iterable[str] = ()) -> QueryResult:
    """Parse the response of a query to Prometheus at ``url``.

    ``secrets`` are masked where the server repeats them in an error.

    Raises:
        PrometheusError: the response has no result; the message has the cause.
    """
    server = f"Prometheus at {url}"
    try:
        if response.status != HTTPStatus.OK:
            raise _failure(f"{server} answered {status_text(response.status)}", response)
        result = _result(server, response)
    except PrometheusError as error:
        raise PrometheusError(error.kind, masked(str(error), secrets)) from None
    return replace(result, partial=tuple(masked(one, secrets) for one in result.partial))


def unreachable(url: str, cause: str, secrets: Iterable[str] = ()) -> PrometheusError:
    """The failure of a request without a response."""
    message = f"Prometheus at {url} does not answer: {_line(cause)}"
    return PrometheusError(FailureKind.UNREACHABLE, masked(message, secrets))


def masked(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret replaced."""
    for secret in sorted({one for one in secrets if one}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _failure(subject: str, response: HttpResponse) -> PrometheusError:
    status, detail = response.status, _error_text(response)
    cause = f": {detail}" if detail else ""
    if status == HTTPStatus.UNAUTHORIZED:
        hint = "check prometheus.auth: the credentials are missing or rejected"
        return PrometheusError(FailureKind.DENIED, f"{subject}{cause}; {hint}")
    if status == HTTPStatus.FORBIDDEN:
        hint = (
            "check prometheus.auth and prometheus.headers: the credentials may not read these data"
        )
        return PrometheusError(FailureKind.DENIED, f"{subject}{cause}; {hint}")
    if 300 <= status < 400:
        target = _origin(response.header("location"))
        hint = "redirects are not followed; check prometheus.url, and prometheus.auth for a login"
        return PrometheusError(FailureKind.DENIED, f"{subject}, a redirect to {target}; {hint}")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
        return PrometheusError(FailureKind.UNREACHABLE, f"{subject}{cause}")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        if _api_error(response) is not None:
            return PrometheusError(FailureKind.QUERY, f"{subject} and rejected the query{cause}")
        return PrometheusError(FailureKind.DENIED, f"{subject}{cause}; check prometheus.url")
    hint = "check prometheus.url, and its path: /api/v1/query is read below it"
    return PrometheusError(FailureKind.DENIED, f"{subject}{cause}; {hint}")


def _result(server: str, response: HttpResponse) -> QueryResult:
    try:
        document = read_json(response.status, response.header("content-type"), response.body)
    except InvalidJson as error:
        raise _not_json(server, response, error) from None
    subject = f"{server} answered {status_text(response.status)}"
    if not isinstance(document, dict):
        raise PrometheusError(FailureKind.INVALID, f"{subject} with JSON that is not an object")
    if document.get("status") == "error":
        raise PrometheusError(
            FailureKind.QUERY, f"{subject} and rejected the query: {_described(document)}"
        )
    data = document.get("data")
    if document.get("status") != "success" or not isinstance(data, dict):
        raise PrometheusError(FailureKind.INVALID, f"{subject} with JSON that has no query result")
    if not isinstance(data.get("resultType"), str) or not isinstance(data.get("result"), list):
        raise PrometheusError(
            FailureKind.INVALID, f"{subject} with a query result that lacks fields"
        )
    return QueryResult(data["resultType"], data["result"], _missing_data(document))


def _not_json(server: str, response: HttpResponse, error: InvalidJson) -> PrometheusError:
    kind = response.header("content-type").lower()
    if "html" in kind or response.body.lstrip()[:1] == b"<":
        return PrometheusError(
            FailureKind.DENIED,
            f"{server} answered {status_text(response.status)} with an HTML page, as a login page or "
            "another service does; check prometheus.url and prometheus.auth",
        )
    return PrometheusError(FailureKind.INVALID, f"{server} {error}; check prometheus.url")


def _missing_data(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings about missing data.

    Thanos, Mimir and Cortex report stores without a response in ``warnings``; VictoriaMetrics sets
    ``isPartial``. Prometheus 3 reports notes of its engine in ``infos`` and ``warnings``, with the
    prefixes below.
    """
    warnings = document.get("warnings")
    texts = warnings if isinstance(warnings, list) else [warnings] if warnings else []
    partial = [_line(str(one)) for one in texts if not _about_the_query(one)]
    if document.get("isPartial") is True:
        partial.append("isPartial is true")
    return tuple(partial)


def _about_the_query(warning: object) -> bool:
    prefixes = ("PromQL warning:", "PromQL info:")
    return isinstance(warning, str) and warning.strip().startswith(prefixes)


def _api_error(response: HttpResponse) -> str | None:
    """The error of a Prometheus API response; None for any other body."""
    try:
        document = parse_json(response.body)
    except InvalidJson:
        return None
    if not isinstance(document, dict) or document.get("status") != "error":
        return None
    return _described(document)


def _error_text(response: HttpResponse) -> str:
    error = _api_error(response)
    if error is not None:
        return error
    kind = response.header("content-type").lower()
    if kind.startswith("text/plain") or not kind:  # Go's server sends no type with its own errors
        return _line(response.body[:_EXCERPT].decode(errors="replace"))
    return ""


def _described(document: Mapping[str, Any]) -> str:
    parts = [document.get("errorType"), document.get("error")]
    return _line(": ".join(part for part in parts if isinstance(part, str) and part)) or "no reason"


def _origin(location: str) -> str:
    """Scheme and host of a redirect's target; the rest may contain a token."""
    try:
        parts = urlsplit(location)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an unreadable address"
    if not host:
        return "the same host" if location else "no address"
    return f"{parts.scheme or 'http'}://{host}{'' if port is None else f':{port}'}"


def _line(text: str) -> str:
    """One printable line of bounded length."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in words)[:_EXCERPT]
