"""Configuration of the Prometheus client: URL, credential files, headers, TLS files, label matchers.

The configuration is a JSON object without secrets, in an environment variable of a pod. Secrets are
files, which are read for each request (``credentials.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from r1_common.untrusted_json import InvalidJson, parse_json

SCRAPES_PER_RATE: Final = 4
"""Scrape intervals in the window of ``rate``, which needs two samples; scrapes may fail."""

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # token of RFC 9110
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+)s)?(?:(\d+)ms)?")
_RESERVED_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "host", "content-length", "connection"}
)


class InvalidPrometheusConfig(ValueError):
    """Invalid configuration; the message has the field and never a secret."""


@dataclass(frozen=True, slots=True)
class PrometheusConfig:
    """URL and authentication of a Prometheus server; an empty ``url`` means none."""

    url: str = ""
    bearer_token_file: Path | None = None
    username_file: Path | None = None
    password_file: Path | None = None
    headers: tuple[tuple[str, str], ...] = ()
    header_files: tuple[tuple[str, Path], ...] = ()
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    matchers: tuple[tuple[str, str], ...] = ()
    """Labels and values that are added to every selector of every query."""
    scrape_interval_seconds: float | None = None
    """None: unknown."""

    @property
    def matchers_note(self) -> str:
        """Text for messages about missing data: " with cluster="a" in every selector", or empty."""
        if not self.matchers:
            return ""
        added = ", ".join(f"{name}={value!r}" for name, value in self.matchers)
        return f" with {added} in every selector (prometheus.matchers)"

    def rate_seconds(self, shortest: int) -> int:
        """Window (s) of the rates in generated queries: at least ``shortest`` and four scrapes."""
        interval = self.scrape_interval_seconds or 0.0
        return max(shortest, math.ceil(SCRAPES_PER_RATE * interval))


def load_config(url: str, client: str = "") -> PrometheusConfig:
    """Parse the configuration for ``url``; ``client`` is the JSON object or the path of its file.

    Raises:
        InvalidPrometheusConfig: a field is invalid; the message names it.
    """
    checked = check_url(url) if url.strip() else ""
    fields = _document(client.strip())
    unknown = sorted(fields.keys() - _FIELDS.keys())
    if unknown:
        known = ", ".join(sorted(_FIELDS))
        raise InvalidPrometheusConfig(
            f"{unknown[0]!r} is not a known field; the fields are {known}"
        )
    values = {}
    for name, value in fields.items():
        attribute, read = _FIELDS[name]
        values[attribute] = read(name, value)
    config = PrometheusConfig(url=checked, **values)
    _check_pairs(config)
    return config


def check_url(url: str) -> str:
    """Return ``url`` without a slash at its end.

    Raises:
        InvalidPrometheusConfig: not an http(s) URL, or a URL with credentials, a query or a
            fragment. The message repeats no part of the URL, which may contain credentials.
    """
    url = url.strip()
    expected = "use http://HOST:PORT or https://HOST:PORT, with an optional path"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidPrometheusConfig(f"the Prometheus URL cannot be parsed: {expected}") from None
    if "@" in parts.netloc or "@" in url.partition("/")[0]:
        raise InvalidPrometheusConfig(
            "the Prometheus URL contains credentials (user:password@): remove them and put user name"
            " and password into a Secret, see prometheus.auth.usernameKey and passwordKey"
        )
    if parts.query or parts.fragment:
        raise InvalidPrometheusConfig(f"the Prometheus URL has a query or a fragment: {expected}")
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise InvalidPrometheusConfig(f"the Prometheus URL is not an http(s) URL: {expected}")
    return url.rstrip("/")


def parse_duration(text: str) -> float:
    """Seconds of a Prometheus duration such as ``15s`` or ``1m30s``.

    Raises:
        ValueError: not a duration, or zero.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError(f"{text!r} is not a duration such as 15s or 1m30s")
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    if total <= 0:
        raise ValueError(f"{text!r} must be longer than zero")
    return float(total)


def _document(client: str) -> Mapping[str, Any]:
    if not client:
        return {}
    text: str | bytes = client
    if not client.startswith("{"):
        try:
            text = Path(client).read_bytes()
        except OSError as error:
            raise InvalidPrometheusConfig(f"{client}: {error.strerror}") from None
    try:
        document = parse_json(text, max_bytes=1 << 20)
    except InvalidJson as error:
        raise InvalidPrometheusConfig(f"invalid client configuration: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPrometheusConfig("the client configuration must be a JSON object")
    return document


def _check_pairs(config: PrometheusConfig) -> None:
    for one, first, two, second in (
        ("usernameFile", config.username_file, "passwordFile", config.password_file),
        ("certFile", config.cert_file, "keyFile", config.key_file),
    ):
        if (first is None) != (second is None):
            missing, given = (one, two) if first is None else (two, one)
            raise InvalidPrometheusConfig(f"{missing} is missing: {given} requires it")
    if config.bearer_token_file is not None and config.username_file is not None:
        raise InvalidPrometheusConfig(
            "bearerTokenFile and usernameFile exclude each other: set one of them"
        )
    plain = {name.lower() for name, _ in config.headers}
    for name, _ in config.header_files:
        if name.lower() in plain:
            raise InvalidPrometheusConfig(
                f"headerFiles: {name} is also in headers; set it in one of them"
            )


def _path(name: str, value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise InvalidPrometheusConfig(f"{name}: must be the path of a file")
    return Path(value)


def _strings(name: str, value: object) -> list[tuple[str, str]]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise InvalidPrometheusConfig(f"{name}: must be an object of strings")
    return sorted(value.items())


def _header_name(field: str, name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise InvalidPrometheusConfig(f"{field}: {name!r} is not a valid HTTP header name")
    if name.lower() in _RESERVED_HEADERS:
        raise InvalidPrometheusConfig(
            f"{field}: {name} cannot be set here; set credentials by bearerTokenFile, or by "
            "usernameFile and passwordFile (prometheus.auth of the chart)"
        )
    return name


def _headers(field: str, value: object) -> tuple[tuple[str, str], ...]:
    headers = _strings(field, value)
    for name, content in headers:
        if not (content.isascii() and content.isprintable()):
            raise InvalidPrometheusConfig(f"{field}: the value of {name} is not printable ASCII")
    return tuple((_header_name(field, name), content.strip()) for name, content in headers)


def _header_files(field: str, value: object) -> tuple[tuple[str, Path], ...]:
    return tuple(
        (_header_name(field, name), _path(f"{field}: {name}", path))
        for name, path in _strings(field, value)
    )


def _matchers(field: str, value: object) -> tuple[tuple[str, str], ...]:
    matchers = _strings(field, value)
    for name, content in matchers:
        if not _LABEL.fullmatch(name) or name == "__name__":
            raise InvalidPrometheusConfig(
                f"{field}: {name!r} is not a valid label name (letters, digits and _, no digit"
                " first; not __name__)"
            )
        try:
            content.encode()
        except UnicodeEncodeError:
            raise InvalidPrometheusConfig(
                f"{field}: the value of {name} is not valid Unicode"
            ) from None
    return tuple(matchers)


def _interval(field: str, value: object) -> float:
    try:
        return parse_duration(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InvalidPrometheusConfig(f"{field}: {error}") from None


_FIELDS: Final[Mapping[str, tuple[str, Callable[[str, object], Any]]]] = {
    "bearerTokenFile": ("bearer_token_file", _path),
    "usernameFile": ("username_file", _path),
    "passwordFile": ("password_file", _path),
    "headers": ("headers", _headers),
    "headerFiles": ("header_files", _header_files),
    "caFile": ("ca_file", _path),
    "certFile": ("cert_file", _path),
    "keyFile": ("key_file", _path),
    "matchers": ("matchers", _matchers),
    "scrapeInterval": ("scrape_interval_seconds", _interval),
}
