"""Missing data as a type.

A load signal that could not be read is not a load of zero: read as zero it would scale a busy service to
its minimum. A value that may be missing is typed `T | Unavailable`, so that mypy requires every reader to
handle it. A sum with a missing part is a `LowerBound`: it may raise a count and never lower it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why a value is missing: a stable CamelCase reason and a message."""

    reason: str
    message: str

    def to_json(self) -> dict[str, object]:
        """Return the reason and message under the key `unavailable`."""
        return {"unavailable": {"reason": self.reason, "message": self.message}}


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A value with a part of the data missing: the true value is at least as high."""

    value: float
    message: str

    @property
    def missing(self) -> Unavailable:
        """The missing part, which prevents a scale-down."""
        return Unavailable("PartialData", self.message)
