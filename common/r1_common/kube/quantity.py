"""Exact Kubernetes quantities.

`500m`, `0.5`, `8Gi`, `1e3` and the integer 1000 are numbers in the API. They are parsed
into fractions, never floats, and keep their original spelling for the manifests of children.

The grammar and the two roundings (up to the next 1e-9, capped at 2**63 - 1) are those of
`resource.Quantity` in apimachinery.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Any, Final

LARGEST: Final = Fraction(2**63 - 1)
_NANO: Final = 10**9
_FURTHEST_EXPONENT: Final = 60  # beyond both roundings; bounds the cost of 1e999999999
_GRAMMAR: Final = re.compile(
    r"(?P<sign>[+-]?)(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?"
)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_UNITS: Final = {0: ""} | {power: unit for unit, power in _DECIMAL.items()}


class NotAQuantity(ValueError):
    """The value is not a Kubernetes quantity."""


def _scale(suffix: str | None) -> Fraction:
    if not suffix:
        return Fraction(1)
    if suffix in _BINARY:
        return Fraction(2 ** _BINARY[suffix])
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    exponent = max(-_FURTHEST_EXPONENT, min(exponent, _FURTHEST_EXPONENT))
    return Fraction(10) ** exponent


def _suffix(raw: int | str) -> str:
    match = _GRAMMAR.fullmatch(str(raw))
    return (match["suffix"] or "") if match else ""


def _whole(value: Fraction, exponent: int) -> bool:
    return (value / Fraction(10) ** exponent).denominator == 1


# Every plan parses the same few spellings.
@lru_cache(maxsize=4096)
def _value(raw: int | str) -> Fraction:
    if isinstance(raw, int):
        return max(-LARGEST, min(Fraction(raw), LARGEST))
    match = _GRAMMAR.fullmatch(raw)
    if match is None:
        raise NotAQuantity(f"{raw!r} is not a quantity such as 1000, 0.5, 500m or 8Gi")
    exact = Fraction(match["number"].rstrip(".")) * _scale(match["suffix"])
    rounded = min(Fraction(ceil(exact * _NANO), _NANO), LARGEST)
    return -rounded if match["sign"] == "-" else rounded


@lru_cache(maxsize=4096)
def _canonical(raw: int | str) -> str:
    value = _value(raw)
    suffix = _suffix(raw)
    if suffix in _BINARY and abs(value) >= 1024 and value.denominator == 1:
        for unit, power in reversed(_BINARY.items()):
            if value % 2**power == 0:
                return f"{value // 2**power}{unit}"
        return str(value)
    exponents = range(18, -10, -3)
    exponent = 0 if value == 0 else next(e for e in exponents if _whole(value, e))
    number = value / Fraction(10) ** exponent
    if suffix[:1] in ("e", "E") and len(suffix) > 1 and suffix not in _BINARY:
        return f"{number}e{exponent}" if exponent else str(number)
    return f"{number}{_UNITS[exponent]}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in its original spelling: an int or a string of the grammar above."""

    raw: int | str

    def __post_init__(self) -> None:
        _ = self.value  # raises NotAQuantity

    @property
    def value(self) -> Fraction:
        """The number, rounded away from zero to 1e-9 and capped at 2**63 - 1."""
        return _value(self.raw)

    @property
    def canonical(self) -> str:
        """The spelling in which the API server stores the quantity: `2000m` is `2`, `1.5Gi` is `1536Mi`."""
        return _canonical(self.raw)

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        return str(self.raw)


def parse_quantity(raw: Any) -> Quantity:
    """Parse a quantity; raises NotAQuantity for floats, booleans and invalid text."""
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise NotAQuantity(f"{raw!r} is not a quantity: write an integer or a string such as 500m")
    return Quantity(raw)
