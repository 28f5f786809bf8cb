"""Figures of one evaluation, per document, and the paired difference of two evaluations.

A difference has an interval of the paired bootstrap: documents are drawn with replacement, both
evaluations at the same documents. A document's difficulty then cancels out, and a difference of 0.1 %
is visible on ten documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DRAWS = 2000
_SEED = 20260101


class FigureKind(Enum):
    """How a figure follows from its documents, and how two are compared."""

    PERPLEXITY = "perplexity"
    """exp(total negative log-probability / total tokens); the difference is a relative change"""
    SHARE = "share"
    """total / weight, from 0 to 1; the difference is in points"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure with its documents.

    Attributes:
        name: such as `perplexity` or `retrieval 1024`.
        kind: its meaning.
        documents: names of the documents or items.
        totals: [documents] sum over a document's tokens or items.
        weights: [documents] number of its tokens or items.
    """

    name: str
    kind: FigureKind
    documents: tuple[str, ...]
    totals: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def value(self) -> float:
        """The figure over all documents; nan without any."""
        return float(self._value(np.array([np.arange(len(self.documents))]))[0])

    def _value(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """[draws] the figure over [draws, n] chosen documents."""
        totals, weights = np.array(self.totals), np.array(self.weights)
        weight = weights[chosen].sum(1)
        mean = np.divide(
            totals[chosen].sum(1), weight, where=weight > 0, out=np.full(len(chosen), np.nan)
        )
        if self.kind is FigureKind.PERPLEXITY:
            mean = np.exp(mean)
        return np.asarray(mean, np.float64)

    def to_json(self) -> dict[str, Any]:
        """All documents, so that a later evaluation can be compared."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "value": self.value,
            "documents": list(self.documents),
            "totals": list(self.totals),
            "weights": list(self.weights),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Figure:
        """The inverse of `to_json`."""
        return cls(
            fields["name"],
            FigureKind(fields["kind"]),
            tuple(fields["documents"]),
            tuple(fields["totals"]),
            tuple(fields["weights"]),
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure minus the same figure of the baseline, with its 95 % interval.

    Attributes:
        name: of the figure.
        kind: of the figure.
        value: of the figure.
        baseline: value of the baseline.
        change: perplexity: relative change in percent, positive is worse. Share: change in percentage
            points, negative is worse.
        low: lower end of the interval of `change`.
        high: upper end.
        documents: number of documents that both have.
    """

    name: str
    kind: FigureKind
    value: float
    baseline: float
    change: float
    low: float
    high: float
    documents: int

    @property
    def loss(self) -> float:
        """Quality lost: percent of perplexity or percentage points; positive is worse."""
        return self.change if self.kind is FigureKind.PERPLEXITY else -self.change

    @property
    def most_loss(self) -> float:
        """Upper end of the interval of `loss`."""
        return self.high if self.kind is FigureKind.PERPLEXITY else -self.low

    @property
    def retained(self) -> float:
        """Share of the baseline's value that is left; nan where that is 0."""
        return self.value / self.baseline if self.baseline else float("nan")

    def to_json(self) -> dict[str, Any]:
        """All values, and the loss."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "value": self.value,
            "baseline": self.baseline,
            "change": self.change,
            "interval": [self.low, self.high],
            "documents": self.documents,
        }


def difference(figure: Figure, baseline: Figure, *, draws: int = _DRAWS) -> Difference:
    """Compare two evaluations of the same documents.

    Args:
        figure: of the changed configuration.
        baseline: the same figure of the configuration to compare with.
        draws: of the bootstrap.

    Raises:
        ValueError: the figures have different names or documents.
    """
    if (figure.name, figure.documents) != (baseline.name, baseline.documents):
        raise ValueError(f"{figure.name} and {baseline.name} are not about the same documents")
    count = len(figure.documents)
    chosen = np.random.default_rng(_SEED).integers(0, count, (draws, count))
    low, high = np.quantile(_change(figure, baseline, chosen), (0.025, 0.975)).tolist()
    everything = np.array([np.arange(count)])
    change = float(_change(figure, baseline, everything)[0])
    # A bootstrap of few documents may not contain the estimate itself.
    return Difference(
        figure.name,
        figure.kind,
        figure.value,
        baseline.value,
        change,
        min(low, change),
        max(high, change),
        count,
    )


def _change(figure: Figure, baseline: Figure, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    new, old = figure._value(chosen), baseline._value(chosen)
    if figure.kind is FigureKind.PERPLEXITY:
        return 100.0 * (new / old - 1.0)
    return 100.0 * (new - old)


def differences(figures: Sequence[Figure], baseline: Sequence[Figure]) -> list[Difference]:
    """Compare every figure that both evaluations have, in order."""
    others = {each.name: each for each in baseline}
    return [difference(each, others[each.name]) for each in figures if each.name in others]
