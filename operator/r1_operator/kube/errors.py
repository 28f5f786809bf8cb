"""What an error of the API server means.

    ApiError                    the request was not done
    |-- Unreachable             no answer (connection, timeout): ask again later
    |-- Busy                    the server failed or is overloaded: ask again later
    |-- NotFound                404
    |-- Conflict                409: another write came first, or the object exists already
    |-- Refused                 the content is wrong, or the write is not allowed
    `-- NotLeader              not sent: this process no longer holds the Lease

The status code alone does not say which of them an answer is. Server-side apply reports a field
that the schema does not have as 500 without a reason, and an admission webhook that denies a
request picks the code itself. So the server's message is read first.
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
    """The API server did not do what was asked; `detail` is its own message, without the path."""

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", detail: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.detail = detail or message


class Unreachable(KubeApiError):
    """No answer: the connection failed, broke or timed out."""


class Busy(KubeApiError):
    """The server is overloaded or failing: 429, or 5xx without a message about the content."""


class NotFound(KubeApiError):
    """The object, or its whole kind, does not exist."""


class Conflict(KubeApiError):
    """Somebody else changed or made the object first."""


class RequestRefused(KubeApiError):
    """The request itself is wrong or not allowed; repeating it at once will not help."""


class NotLeader(KubeApiError):
    """A write was held back because this process does not hold the Lease any more."""


def failure_of(method: str, path: str, status: int, data: bytes) -> KubeApiError:
    """The error that an answer of this status and body means."""
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
    """Message and reason of a `Status`; of any other body its first 200 characters."""
    try:
        answer = orjson.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return data[:200].decode(errors="replace").strip(), ""
    return str(answer.get("message") or ""), str(answer.get("reason") or "")
