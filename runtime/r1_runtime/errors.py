"""The errors this package raises on purpose; everything else is a bug.

RuntimeFault                 one line for people, with the fix when there is one
+- ModelLoadError            a checkpoint that does not load (exit code 2)
+- OptionError               a command line option that cannot be (exit code 2)
+- RequestError              a request that is refused; knows its HTTP status
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """Base: `str(error)` is one line that says what is wrong and how to mend it."""


class ModelLoadError(RuntimeFault):
    """A checkpoint folder that cannot be served.

    Args:
        where: the folder or file as the user named it.
        what: what is wrong with it.
        fix: what to do about it.
    """

    def __init__(self, where: object, what: str, fix: str) -> None:
        super().__init__(" ".join(f"{where}: {what} Fix: {fix}".split()))


class OptionError(RuntimeFault):
    """A command line option with a value that cannot work."""


class RequestError(RuntimeFault):
    """A request that is refused, in the terms of the OpenAI error object.

    Attributes:
        status: HTTP status; 400, 404, 429 or 503.
        kind: OpenAI's `type`, such as `invalid_request_error`.
        param: the field at fault, or None.
        code: OpenAI's machine-readable `code`, or None.
        retry_after: seconds for the `Retry-After` header, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.param = param
        self.code = code
        self.retry_after = retry_after
