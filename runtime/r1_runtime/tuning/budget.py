"""Choice of the techniques that keep a budget of quality."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from r1_runtime.config import R1Config
from r1_runtime.errors import OptionError
from r1_runtime.quality.figures import Difference
from r1_runtime.tuning.measurement import Measurement
from r1_runtime.tuning.technique import DENSE, TechniqueKind

_PART = re.compile(r"(quality|retrieval)=(\d+(?:\.\d+)?)%?")
_SAVES = 0.97


class Objective(Enum):
    """What is made small within the budget."""

    TIME = "time"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class QualityBudget:
    """Quality that may be lost.

    Attributes:
        perplexity: most percent of perplexity; the upper end of the 95 % interval counts.
        retrieval: least share of the dense model's retrieval, from 0 to 1; 0 for no limit.
    """

    perplexity: float
    retrieval: float = 0.0

    def keeps(self, differences: Sequence[Difference]) -> bool:
        """Whether these differences from the dense model are within the budget."""
        for each in differences:
            if each.name == "perplexity" and each.most_loss > self.perplexity:
                return False
            # A dense model that retrieves nothing (nan) limits nothing.
            if each.name == "retrieval" and each.retained < self.retrieval:
                return False
        return True


def parse_budget(text: str) -> QualityBudget:
    """`quality=0.5%`, or `quality=0.5%,retrieval=98%`.

    Raises:
        OptionError: with the valid form.
    """
    values = {}
    for part in text.replace(" ", "").split(","):
        matched = _PART.fullmatch(part)
        if matched is None or matched[1] in values:
            raise OptionError(
                f"--budget is {text!r}: {part!r} is not understood. Fix: quality=0.5% (perplexity that"
                " may be lost), or quality=0.5%,retrieval=98% (retrieval that has to be left)."
            )
        values[matched[1]] = float(matched[2])
    if "quality" not in values:
        raise OptionError(f"--budget is {text!r}: quality is missing. Fix: quality=0.5%.")
    return QualityBudget(values["quality"], values.get("retrieval", 0.0) / 100)


def candidates(
    rows: Sequence[Measurement], budget: QualityBudget, objective: Objective
) -> tuple[Measurement, ...]:
    """Of each kind the technique that saves most and keeps the budget by itself."""
    best: dict[TechniqueKind, Measurement] = {}
    for row in rows:
        cost = cost_of(row, objective)
        exact = row.equal_texts is None or row.equal_texts == 1
        if cost is None or cost >= _SAVES or not exact or not budget.keeps(row.differences):
            continue
        known = best.get(row.technique.kind)
        if known is None or cost < (cost_of(known, objective) or 0.0):
            best[row.technique.kind] = row
    return tuple(best.values())


def cost_of(row: Measurement, objective: Objective) -> float | None:
    """What is made small, as a share of the dense model's; None where it was not measured."""
    if row.refused:
        return None
    if objective is Objective.BYTES and row.bytes_ratio is not None:
        return row.bytes_ratio
    return None if row.decode is None else row.decode.median


def combined(config: R1Config, rows: Sequence[Measurement]) -> R1Config:
    """The configuration with all these techniques.

    Raises:
        OptionError: they exclude each other.
    """
    changes = dict(DENSE)
    for row in rows:
        changes |= row.technique.changes
    return dataclasses.replace(config, **changes)


def fallbacks(rows: Sequence[Measurement]) -> Iterator[tuple[Measurement, ...]]:
    """All candidates, then without the one that loses most, and so on, down to none."""
    ordered = sorted(rows, key=lambda row: row.loss.most_loss if row.loss else 0.0)
    for count in range(len(ordered), -1, -1):
        yield tuple(ordered[:count])
