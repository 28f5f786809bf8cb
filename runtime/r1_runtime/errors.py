"""Declared errors of the runtime; any other exception is a bug.

RuntimeFault                 one line: the cause and, where there is one, the fix
+- ModelLoadError            a checkpoint that does not load (exit code 2)
+- OptionError               a command line option that cannot be used (exit code 2)
+- StartRefusedError         a divided model whose first process does not start (exit code 2)
+- RankLostError             a process of a divided model that has ended (exit code 1)
+- RequestError              a rejected request, with its HTTP status
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """Base class: `str(error)` is one line with the cause and the fix."""


class ModelLoadError(RuntimeFault):
    """A checkpoint folder that cannot be served.

    Args:
        where: the folder or file, as given by the user.
        what: the cause.
        fix: the action that removes it.
    """

    def __init__(self, where: object, what: str, fix: str) -> None:
        super().__init__(" ".join(f"{where}: {what} Fix: {fix}".split()))


class OptionError(RuntimeFault):
    """A command line option with a value that cannot work."""


class StartRefusedError(RuntimeFault):
    """The first process of a divided model has ended its start; the text is its error."""


class RankLostError(RuntimeFault):
    """A process of a model that is divided over several has ended or failed."""


class RequestError(RuntimeFault):
    """A rejected request, with the fields of the OpenAI error object.

    Attributes:
        status: HTTP status; 400, 404, 429 or 503.
        kind: OpenAI's `type`, such as `invalid_request_error`.
        param: the invalid field, or None.
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
