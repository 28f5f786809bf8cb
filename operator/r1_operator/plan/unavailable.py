"""Missing data as a type.

A load signal that could not be read is not a load of zero: read as zero it would send a busy
service to its minimum. Whatever may be missing is typed `T | Unavailable`, so that mypy asks
every reader what happens without it. A sum of which a part is missing is a `LowerBound`: it may raise
a count and never lower it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Why a value is not there: a CamelCase reason that stays the same, a sentence for people."""

    reason: str
    message: str

    def to_json(self) -> dict[str, object]:
        """Return the reason and message under the key `unavailable`."""
        return {"unavailable": {"reason": self.reason, "message": self.message}}


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A value that lacks a part of the data: the true one is at least as high. Why, in a sentence."""

    value: float
    message: str

    @property
    def missing(self) -> Unavailable:
        """What keeps a decision from lowering a count by this value."""
        return Unavailable("PartialData", self.message)
