"""Missing and partial data as types; `Unavailable` itself is `r1_common.contracts.unavailable`."""

from dataclasses import dataclass

from r1_common.contracts.unavailable import Unavailable

__all__ = ["LowerBound", "Unavailable"]


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A value of which a part is missing: it may raise a count and never lower it."""

    value: float
    message: str

    @property
    def missing(self) -> Unavailable:
        """The missing part, which keeps a decision from lowering a count by this value."""
        return Unavailable("PartialData", self.message)
