"""Missing data as a type.

A load signal that could not be read is not a load of zero: read as zero, it would scale a busy
service to its minimum. A value that may be missing is typed `T | Unavailable`, so that mypy requires
every reader to handle the missing case.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Reason of a missing value: a stable CamelCase word for programs, a sentence for people."""

    reason: str
    message: str

    def to_json(self) -> dict[str, object]:
        """Return the reason and message under the key `unavailable`."""
        return {"unavailable": {"reason": self.reason, "message": self.message}}
