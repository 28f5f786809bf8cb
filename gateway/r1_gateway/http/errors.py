"""Error responses in the format of the OpenAI API."""

from __future__ import annotations

from dataclasses import dataclass

import orjson


@dataclass(eq=False)
class ApiError(Exception):
    """An error response: HTTP status, ``type``, ``code`` and message of the OpenAI format."""

    status: int
    kind: str
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: float | None = None
    retry_is_exact: bool = False
    """The time is reserved for one client, so it gets no jitter."""
    headers: bytes = b""
    """Header lines of the response, each ending in CRLF."""

    def body(self) -> bytes:
        """The JSON body."""
        return orjson.dumps(
            {
                "error": {
                    "message": self.message,
                    "type": self.kind,
                    "param": self.param,
                    "code": self.code,
                }
            }
        )

    def event(self) -> bytes:
        """The same as a server-sent event."""
        return b"data: " + self.body() + b"\n\n"


def bad_request(message: str, *, param: str | None = None, code: str = "bad_request") -> ApiError:
    """400: the client must change its request."""
    return ApiError(400, "invalid_request_error", code, message, param)


def unavailable(code: str, message: str, retry_after_seconds: float) -> ApiError:
    """503: no capacity; the same request may succeed later."""
    return ApiError(503, "server_error", code, message, retry_after_seconds=retry_after_seconds)


def overloaded(message: str) -> ApiError:
    """503: the gateway itself, not the pods, lacks capacity."""
    return unavailable("gateway_overloaded", message, 1.0)


def deadline_exceeded(message: str) -> ApiError:
    """504: the client's deadline passed."""
    return ApiError(504, "timeout_error", "deadline_exceeded", message)


def bad_gateway(code: str, message: str) -> ApiError:
    """502: a model pod failed during the request."""
    return ApiError(502, "server_error", code, message)
