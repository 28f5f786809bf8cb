"""Missing and partial data as types; `Unavailable` itself is `r1_common.contracts.unavailable`."""

from dataclasses import dataclass

from r1_common.contracts.unavailable import Unavailable


@dataclass(frozen=True, slots=True)
class LowerBound:
    """A value with a part of the data missing: the true value is at least as high."""

    value: float
    message: str

    @property
    def missing(self) -> Unavailable:
        """The missing part, which prevents a scale-down."""
        return Unavailable("PartialData", self.message)
