"""Parsing of untrusted JSON: every failure is one declared error.

``json.loads`` raises more than ``ValueError``: deep nesting causes ``RecursionError``, and an unpaired
surrogate fails only when the text is encoded again. Code that reads a document of an unexpected shape
raises ``TypeError``, ``KeyError``, ``AttributeError`` or ``OverflowError``. A background task that does
not catch one of these ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_BYTES = 16 << 20


class InvalidJson(ValueError):
    """Rejected JSON text; the message has the cause."""


def parse_json(text: str | bytes | bytearray, *, max_bytes: int = MAX_BYTES) -> Any:
    """Parse ``text``.

    ``NaN`` and ``Infinity`` are rejected: RFC 8259 has no such numbers.

    Raises:
        InvalidJson: not JSON, larger than ``max_bytes``, or nested too deeply for this process.
    """
    if len(text) > max_bytes:
        raise InvalidJson(f"the text has {len(text)} bytes; the limit is {max_bytes} bytes")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidJson("the document is nested too deeply") from None
    except MemoryError:
        raise InvalidJson("the document needs more memory than this process has") from None
    except (
        ValueError
    ) as error:  # JSONDecodeError, UnicodeDecodeError, an integer of too many digits
        raise InvalidJson(f"not JSON: {error}") from None


@contextmanager
def convert_errors(error_type: type[Exception], subject: str) -> Iterator[None]:
    """Convert any exception of the block to ``error_type``; one of that type passes unchanged.

    ``subject`` is the object in the message: ``"ConfigMap default/a"``.
    """
    try:
        yield
    except error_type:
        raise
    except RecursionError:
        raise error_type(f"{subject}: the document is nested too deeply") from None
    except Exception as error:
        raise error_type(f"{subject}: {type(error).__name__}: {error}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
