"""The response of Prometheus' query API: a result, or a failure with the HTTP status and the cause.

https://prometheus.io/docs/prometheus/latest/querying/api/. What answers at the URL need not be
Prometheus: a proxy asks for a login, a load balancer sends an HTML page, a store sends part of the
data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from r1_common.foreign_json import MAX_BYTES, InvalidJson, parse_json
from r1_common.http_json import read_json, status_text

MAX_RESPONSE_BYTES: Final = MAX_BYTES
_EXCERPT: Final = 300


class FailureKind(Enum):
    """What a query failed on; it decides whether the same query may succeed a moment later."""

    UNREACHABLE = auto()
    """No response, a timeout, a TLS failure, 429 or 5xx."""
    DENIED = auto()
    """401, 403, a redirect, an HTML page, any other status that is no answer to the query."""
    QUERY = auto()
    """Prometheus refuses the query (400, 422)."""
    INVALID = auto()
    """200 with a body that is no answer of the query API."""
    CONFIG = auto()
    """A credential or TLS file of this side cannot be used."""


class PrometheusError(Exception):
    """A query without a result; the message has URL, HTTP status and cause, and no secret."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class QueryResult:
    """``data`` of a successful response.

    ``partial`` are the warnings that mean missing data; not empty: the result is a lower bound of
    a sum or a count. Warnings of the PromQL engine about the query itself are not among them.
    """

    result_type: str
    result: Any
    partial: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back: ``body`` holds at most ``MAX_RESPONSE_BYTES`` + 1 bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """The header's value, whatever the case of its name; empty without one."""
        return next((v for k, v in self.headers.items() if k.lower() == name), "")


def read_response(url: str, response: HttpResponse, secrets: Iterable[str] = ()) -> QueryResult:
    """The result in the response of a query to Prometheus at ``url``.

    ``secrets`` are masked where the server repeats them in an error.

    Raises:
        PrometheusError: there is no result; the message says why.
    """
    who = f"Prometheus at {url}"
    try:
        if response.status != HTTPStatus.OK:
            raise _refused(f"{who} answered {status_text(response.status)}", response)
        found = _result(who, response)
    except PrometheusError as error:
        raise PrometheusError(error.kind, masked(str(error), secrets)) from None
    return replace(found, partial=tuple(masked(one, secrets) for one in found.partial))


def unreachable(url: str, cause: str, secrets: Iterable[str] = ()) -> PrometheusError:
    """The failure of a request without a response."""
    message = f"Prometheus at {url} does not answer: {_line(cause)}"
    return PrometheusError(FailureKind.UNREACHABLE, masked(message, secrets))


def masked(text: str, secrets: Iterable[str]) -> str:
    """``text`` with every secret replaced."""
    for secret in sorted({one for one in secrets if one}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _refused(who: str, response: HttpResponse) -> PrometheusError:
    status, said = response.status, _error_text(response)
    because = f": {said}" if said else ""
    if status == HTTPStatus.UNAUTHORIZED:
        hint = "check prometheus.auth: the credentials are missing or not accepted"
        return PrometheusError(FailureKind.DENIED, f"{who}{because}; {hint}")
    if status == HTTPStatus.FORBIDDEN:
        hint = (
            "check prometheus.auth and prometheus.headers: the credentials may not read these data"
        )
        return PrometheusError(FailureKind.DENIED, f"{who}{because}; {hint}")
    if 300 <= status < 400:
        target = _origin(response.header("location"))
        hint = "redirects are not followed; check prometheus.url, and prometheus.auth for a login"
        return PrometheusError(FailureKind.DENIED, f"{who}, a redirect to {target}; {hint}")
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
        return PrometheusError(FailureKind.UNREACHABLE, f"{who}{because}")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
        if _api_error(response) is not None:
            return PrometheusError(FailureKind.QUERY, f"{who} and refused the query{because}")
        return PrometheusError(FailureKind.DENIED, f"{who}{because}; check prometheus.url")
    hint = "check prometheus.url, and its path: /api/v1/query is read below it"
    return PrometheusError(FailureKind.DENIED, f"{who}{because}; {hint}")


def _result(who: str, response: HttpResponse) -> QueryResult:
    try:
        document = read_json(response.status, response.header("content-type"), response.body)
    except InvalidJson as error:
        raise _not_json(who, response, error) from None
    who = f"{who} answered {status_text(response.status)}"
    if not isinstance(document, dict):
        raise PrometheusError(FailureKind.INVALID, f"{who} with JSON that is not an object")
    if document.get("status") == "error":
        raise PrometheusError(
            FailureKind.QUERY, f"{who} and refused the query: {_described(document)}"
        )
    data = document.get("data")
    if document.get("status") != "success" or not isinstance(data, dict):
        raise PrometheusError(FailureKind.INVALID, f"{who} with JSON that has no query result")
    if not isinstance(data.get("resultType"), str) or not isinstance(data.get("result"), list):
        raise PrometheusError(FailureKind.INVALID, f"{who} with a query result that lacks fields")
    return QueryResult(data["resultType"], data["result"], _missing_data(document))


def _not_json(who: str, response: HttpResponse, error: InvalidJson) -> PrometheusError:
    kind = response.header("content-type").lower()
    if "html" in kind or response.body.lstrip()[:1] == b"<":
        return PrometheusError(
            FailureKind.DENIED,
            f"{who} answered {status_text(response.status)} with an HTML page, which a login or "
            "another service sends; "
            "check prometheus.url and prometheus.auth",
        )
    return PrometheusError(FailureKind.INVALID, f"{who} {error}; check prometheus.url")


def _missing_data(document: Mapping[str, Any]) -> tuple[str, ...]:
    """The warnings that mean missing data.

    Thanos, Mimir and Cortex report stores that did not answer in ``warnings``; VictoriaMetrics sets
    ``isPartial``. Prometheus 3 puts notes of its engine into ``infos`` and ``warnings``, with the
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
    """The error of a Prometheus API response; None where the body is none."""
    try:
        document = parse_json(response.body)
    except InvalidJson:
        return None
    if not isinstance(document, dict) or document.get("status") != "error":
        return None
    return _described(document)


def _error_text(response: HttpResponse) -> str:
    found = _api_error(response)
    if found is not None:
        return found
    kind = response.header("content-type").lower()
    if kind.startswith("text/plain") or not kind:  # Go's server sends no type with its own errors
        return _line(response.body[:_EXCERPT].decode(errors="replace"))
    return ""


def _described(document: Mapping[str, Any]) -> str:
    parts = [document.get("errorType"), document.get("error")]
    return _line(": ".join(part for part in parts if isinstance(part, str) and part)) or "no reason"


def _origin(location: str) -> str:
    """Scheme and host of a redirect's target: the rest may hold a token."""
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
