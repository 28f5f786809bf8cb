"""Dynamic experts: each token uses the smallest set of experts that reaches a share of the scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DynamicGate:
    """How many experts a token uses.

    The articles describe a gate that chooses 2 to 8 experts by the content of a token and keeps the
    result for similar tokens. The number is chosen here; the result is not kept: the gate is below
    1 % of a step, which is also what a look-up would cost. `docs/techniques.md` has the measurements.

    Attributes:
        mass: share of the sum of all eligible scores that the chosen experts reach, above 0.
        minimum: experts of a token at least.
        maximum: experts of a token at most; a layer's number of eligible experts where that is less.
    """

    mass: float
    minimum: int = 2
    maximum: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ValueError(f"mass is {self.mass:g}; it must be above 0 and at most 1")
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError(
                f"minimum {self.minimum} and maximum {self.maximum} are not 1 <= minimum <= maximum"
            )


@dataclass(frozen=True, slots=True)
class ExpertChoice:
    """Experts of T tokens in compressed sparse row form.

    Attributes:
        starts: int32 [T + 1], first entry of each token in the other arrays.
        experts: int32, best first.
        scores: float32, of these experts.
    """

    starts: NDArray[np.int32]
    experts: NDArray[np.int32]
    scores: NDArray[np.float32]

    @property
    def mean(self) -> float:
        """Experts per token."""
        return len(self.experts) / max(1, len(self.starts) - 1)


def dynamic_routing(
    scores: NDArray[np.float32],
    gate: DynamicGate,
    *,
    choice: NDArray[np.float32] | None = None,
    eligible: NDArray[np.bool_] | None = None,
) -> ExpertChoice:
    """Choose the experts of each token; ties go to the lower number.

    The native backend does the same in its step (`native/src/experts.h`).

    Args:
        scores: [T, E], not negative: softmax or sigmoid of the router's logits.
        gate: the share and the bounds.
        choice: [T, E] values by which experts are ordered, such as biased scores; the scores
            themselves where absent.
        eligible: [T, E] experts that a token may use; all where absent.
    """
    allowed = np.ones(scores.shape, bool) if eligible is None else eligible
    order = np.argsort(
        np.where(allowed, -(scores if choice is None else choice), np.inf), axis=1, kind="stable"
    )
    usable = np.where(allowed, scores, 0).astype(np.float32)
    ordered = np.take_along_axis(usable, order, axis=1)
    target = usable.cumsum(1, dtype=np.float32)[:, -1:] * np.float32(gate.mass)
    before = np.hstack([np.zeros_like(ordered[:, :1]), ordered.cumsum(1, dtype=np.float32)[:, :-1]])
    needed = (before < target).sum(1)
    most = np.minimum(allowed.sum(1), gate.maximum)
    counts = np.minimum(np.maximum(needed, gate.minimum), most)
    taken = np.arange(scores.shape[1]) < counts[:, None]
    starts = np.zeros(len(scores) + 1, np.int32)
    np.cumsum(counts, out=starts[1:])
    return ExpertChoice(starts, order[taken].astype(np.int32), ordered[taken])
