"""JSON written by somebody else: every failure is one declared error, whatever went wrong.

``json.loads`` raises more than ``ValueError``: deep nesting ends in ``RecursionError``, a long integer
in ``ValueError`` of another text, an unpaired surrogate only when the text is encoded again.  The code
that reads the document then raises ``TypeError``, ``KeyError``, ``AttributeError`` or
``OverflowError`` on a shape that its author did not expect.  A task that meets one of these outside
its ``except`` clause ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MAX_BYTES = 16 << 20


class InvalidJson(ValueError):
    """The text is not JSON that this process accepts; the message says why."""


def parse_json(text: str | bytes | bytearray, *, max_bytes: int = MAX_BYTES) -> Any:
    """The document in ``text``.

    ``NaN`` and ``Infinity`` are refused: RFC 8259 has no such numbers.

    Raises:
        InvalidJson: not JSON, larger than ``max_bytes``, or nested too deeply for this process.
    """
    if len(text) > max_bytes:
        raise InvalidJson(f"the text has {len(text)} bytes; at most {max_bytes} are read")
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
def only(error_type: type[Exception], what: str) -> Iterator[None]:
    """Turn any exception of the block into ``error_type``; one of that type passes unchanged.

    ``what`` names the object in the message: ``"ConfigMap default/a"``.
    """
    try:
        yield
    except error_type:
        raise
    except RecursionError:
        raise error_type(f"{what}: the document is nested too deeply") from None
    except Exception as error:
        raise error_type(f"{what}: {type(error).__name__}: {error}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
