"""Error answers in the form that OpenAI's clients read."""

from __future__ import annotations

from dataclasses import dataclass

import orjson


@dataclass(eq=False)
class ApiError(Exception):
    """An answer that is an error: HTTP status, ``type`` and ``code`` of the OpenAI form, message."""

    status: int
    kind: str
    code: str
    message: str
    param: str | None = None
    retry_after_seconds: float | None = None
    retry_is_exact: bool = False
    """the time is one client's own: it needs no jitter"""
    headers: bytes = b""
    """Header lines of the answer, each ending in CRLF."""

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
    """503: no capacity; the same request may work later."""
    return ApiError(503, "server_error", code, message, retry_after_seconds=retry_after_seconds)


def overloaded(message: str) -> ApiError:
    """503: this gateway, not the pods, has no room at the moment."""
    return unavailable("gateway_overloaded", message, 1.0)


def deadline_exceeded(message: str) -> ApiError:
    """504: the time that the client gave has passed."""
    return ApiError(504, "timeout_error", "deadline_exceeded", message)


def bad_gateway(code: str, message: str) -> ApiError:
    """502: a model pod broke the request."""
    return ApiError(502, "server_error", code, message)
