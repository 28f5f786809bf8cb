"""Errors of requests to the API server.

    KubeApiError                the request failed
    |-- Unreachable             no response (connection, timeout): retry later
    |-- Busy                    the server failed or is overloaded: retry later
    |-- NotFound                404
    |-- Conflict                409: another write came first, or the object exists
    |-- RequestRefused          the content is invalid, or the write is forbidden
    `-- NotLeader               not sent: this process does not hold the Lease

The status code alone is not enough to choose the class. Server-side apply reports a field that is not
in the schema as 500 without a reason, and an admission webhook chooses its own code. The message of
the server is therefore checked first.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

_CONTENT: Final = re.compile(
    # of server-side apply: 500 without a reason, up to Kubernetes 1.37 at least
    r"failed to (create typed|convert new|convert live|convert to) "
    r"|failed to update ManagedFields|field not declared in schema"
    # of every admission webhook and ValidatingAdmissionPolicy, with any code
    r'|admission webhook "[^"]*" denied the request'
    r"|ValidatingAdmissionPolicy '[^']*' .*denied request"
)


class KubeApiError(Exception):
    """A failed request; `detail` is the message of the server, without the path."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.detail = detail or message


class Unreachable(KubeApiError):
    """No response: the connection failed, broke or timed out."""


class Busy(KubeApiError):
    """The server is overloaded or failing: 429, or 5xx without a message about the content."""


class NotFound(KubeApiError):
    """The object, or its whole kind, does not exist."""


class Conflict(KubeApiError):
    """Another client changed or created the object first."""


class RequestRefused(KubeApiError):
    """The request is invalid or forbidden; an immediate retry fails again."""


class NotLeader(KubeApiError):
    """A write was not sent, because this process does not hold the Lease."""


def failure_of(method: str, path: str, status: int, data: bytes) -> KubeApiError:
    """The error for a response with this status and body."""
    message, reason = _status_object(data)
    return _kind(status, message)(
        f"{method} {path}: {status} {message}",
        status=status,
        reason=reason,
        detail=message or f"HTTP status {status} without a message",
    )


def _kind(status: int, message: str) -> type[KubeApiError]:
    if _CONTENT.search(message):
        return RequestRefused
    if status == 404:
        return NotFound
    if status == 409:
        return Conflict
    return Busy if status in (408, 429) or status >= 500 else RequestRefused


def _status_object(data: bytes) -> tuple[str, str]:
    """Message and reason of a `Status`; for any other body its first 200 characters."""
    try:
        status = orjson.loads(data)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        return data[:200].decode(errors="replace").strip(), ""
    return str(status.get("message") or ""), str(status.get("reason") or "")
