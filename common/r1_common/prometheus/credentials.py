"""Secrets and TLS files of a Prometheus configuration, reloaded when they change.

Kubernetes replaces the files of a mounted Secret while the pod runs. Header files are small and read
for each request. A TLS context is rebuilt when one of its files has changed.
"""

from __future__ import annotations

import base64
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from r1_common.prometheus.client_config import PrometheusConfig
from r1_common.prometheus.response import FailureKind, PrometheusError

_LONGEST: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """Headers of one request, and the secrets in them to mask in messages."""

    headers: dict[str, str]
    secrets: tuple[str, ...] = field(default=(), repr=False)


def request_headers(config: PrometheusConfig) -> RequestHeaders:
    """Read the headers of a request.

    Raises:
        PrometheusError: a file cannot be read, or its content is not valid in a header.
    """
    headers = {"Accept": "application/json"} | dict(config.headers)
    secrets: list[str] = []
    for name, path in config.header_files:
        headers[name] = _ascii(path)
        secrets.append(headers[name])
    if config.bearer_token_file is not None:
        token = _ascii(config.bearer_token_file)
        secrets.append(token)
        headers["Authorization"] = f"Bearer {token}"
    elif config.username_file is not None and config.password_file is not None:
        user, password = _text(config.username_file), _text(config.password_file)
        if ":" in user:
            raise _unusable(config.username_file, "a user name must not have a colon")
        encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets += [password, encoded]
        headers["Authorization"] = f"Basic {encoded}"
    return RequestHeaders(headers, tuple(secrets))


class TlsFiles:
    """The TLS context of a configuration, rebuilt when one of the files changes."""

    def __init__(self, config: PrometheusConfig) -> None:
        self._config = config
        paths = (config.ca_file, config.cert_file, config.key_file)
        self._paths = tuple(path for path in paths if path is not None)
        self._state: tuple[tuple[int, int, int], ...] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The current TLS context; a CA file replaces the CAs of the system.

        Raises:
            PrometheusError: a file cannot be read or has no certificate or key.
        """
        state = tuple(_state(path) for path in self._paths)
        if self._context is None or state != self._state:
            self._context, self._state = self._build(), state
        return self._context

    def _build(self) -> ssl.SSLContext:
        ca, cert, key = self._config.ca_file, self._config.cert_file, self._config.key_file
        try:
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except (OSError, ValueError) as error:
            raise _unusable(ca or Path("the CA file"), _reason(error)) from None
        if cert is not None and key is not None:
            try:
                # Without a password, OpenSSL would prompt at the terminal.
                context.load_cert_chain(str(cert), str(key), password="")
            except (OSError, ValueError) as error:
                raise _unusable(cert, f"with key {key}: {_reason(error)}") from None
        return context


def _state(path: Path) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__) from None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise _unusable(path, error.strerror or type(error).__name__) from None
    if len(content) > _LONGEST:
        raise _unusable(path, f"longer than {_LONGEST} bytes")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise _unusable(path, "not UTF-8") from None
    if not text:
        raise _unusable(path, "the file is empty")
    return text


def _ascii(path: Path) -> str:
    text = _text(path)
    if not (text.isascii() and text.isprintable()):
        raise _unusable(path, "it has characters that are not valid in an HTTP header")
    return text


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no usable PEM data ({error.reason or type(error).__name__})"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _unusable(path: Path, cause: str) -> PrometheusError:
    return PrometheusError(
        FailureKind.CONFIG,
        f"Prometheus was not queried: the file {path} of the client configuration cannot be used:"
        f" {cause}; check prometheus.auth",
    )
