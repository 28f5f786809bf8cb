"""Numbers of a JSON body; an invalid value is a 400 that names the field.

As in vLLM, a number may be a string (`"5"`), and a whole number may have a zero fraction (`5.0`).
A boolean is never a number.
"""

from __future__ import annotations

import math
import re

from r1_runtime.errors import RequestError

_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_NUMBER = re.compile(
    r"\s*[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})(e[+-]?[0-9]{1,4})?\s*", re.IGNORECASE
)


def bad_field(param: str | None, message: str, code: str | None = None) -> RequestError:
    """The 400 error for an invalid field."""
    return RequestError(message, param=param, code=code)


def conflict(param: str, message: str) -> RequestError:
    """The 400 error for a valid field that does not go with the other fields or with this model."""
    return bad_field(param, message, "conflicting_parameters")


def as_whole(value: object) -> int | None:
    """`value` as a whole number of 64 bits, or None for any other value."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        return None
    return value


def as_number(value: object) -> float | None:
    """`value` as a finite number, or None for any other value."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
