"""A constraint on the tokens of an output, such as a grammar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # numpy's import takes longer than that of all other modules of a message
    import numpy as np
    from numpy.typing import NDArray


class TokenConstraint(Protocol):
    """Allows a set of tokens at each position. Used in the engine's thread only."""

    @property
    def param(self) -> str:
        """The request's field that it came from, for errors."""

    def mask(self) -> NDArray[np.uint32] | None:
        """Allowed next tokens as bits [ceil(vocab / 32)], lowest bit first; None for all tokens."""

    def accept(self, token: int) -> None:
        """Append a generated token, end tokens excluded."""

    @property
    def finished(self) -> bool:
        """Whether the output is complete: no further token is allowed."""
