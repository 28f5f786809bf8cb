"""The policy of sparse attention: plain values, checked once, read by every backend."""

from __future__ import annotations

import math
from dataclasses import dataclass

from r1_runtime.sparsity.heads import HeadModes

UNIT = 16  # tokens of a unit: the smallest part of the cache that is read or not


@dataclass(frozen=True, slots=True)
class DynamicSparseAttention:
    """Variable sparsity attention: each token reads the units of the cache that its scores ask for.

    A unit is 16 tokens and has a summary: the mean and half of the range of its keys. A query row scores
    all summaries: q * mean + spread * |q| * range / 2. The units with the highest scores are candidates,
    and of those the smallest set that holds a share of the coarse mass is read, with the first units
    (sinks) and the last ones. With `correction`, a unit that is not read counts as 16 tokens with the
    mean key and the mean value. The query heads of one key head share a selection.

    The articles about this runtime claim that INT4 scores of all keys keep 20 % of them, that 30 to 70 %
    of those are dropped, and that this halves the time of attention without loss. Scores of all keys in
    INT4 read a quarter of the keys, which bounds the speed-up at about three. The summaries read an
    eighth of the keys. What was measured here is in docs/techniques.md.

    Attributes:
        sparsity: share of the units that the coarse scores drop; 0 reads all candidates.
        adaptive: drop further candidates by mass, within `drop_range`.
        drop_range: lowest and highest share of the candidates that `adaptive` drops.
        mass: share of the candidates' coarse mass that `adaptive` holds.
        sink_tokens: first tokens that are always read, rounded up to units.
        recent_tokens: last tokens that are always read, rounded up to units; at least two units.
        spread: weight of half of the range of a unit's keys in its coarse score.
        correction: estimate what is not read from the summaries.
        prompts: prompts attend sparsely, too, in tiles of up to 16 tokens that share a selection.
        from_context: tokens of context from which a row attends sparsely.
        window: tokens that heads of mode WINDOW read, beside the sinks.
        heads: mode of each layer and key head; None for SPARSE everywhere.

    Raises:
        ValueError: a value is out of its range, with its name.
    """

    sparsity: float = 0.8
    adaptive: bool = False
    drop_range: tuple[float, float] = (0.3, 0.7)
    mass: float = 0.9
    sink_tokens: int = 16
    recent_tokens: int = 32
    spread: float = 0.75
    correction: bool = False
    prompts: bool = False
    from_context: int = 2048
    window: int = 512
    heads: HeadModes | None = None

    def __post_init__(self) -> None:
        low, high = self.drop_range
        for name, value in (
            ("sparsity", self.sparsity),
            ("mass", self.mass),
            ("spread", self.spread),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be from 0 to 1")
        if not 0 <= low <= high < 1:
            raise ValueError(f"drop_range is {low},{high}; it must be ascending, from 0 to below 1")
        least = {"sink_tokens": 0, "recent_tokens": 1, "from_context": 1, "window": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {bound}")

    @property
    def sink_units(self) -> int:
        """First units that are always read."""
        return units(self.sink_tokens)

    @property
    def recent_units(self) -> int:
        """Last units that a sparse head always reads; the last one may not be full."""
        return max(2, units(self.recent_tokens))

    @property
    def window_units(self) -> int:
        """Last units that a window head reads; the last one may not be full."""
        return units(self.window) + 1

    def describe(self) -> str:
        """One line for the log."""
        low, high = self.drop_range
        second = f", then {low:.0%} to {high:.0%} of those" if self.adaptive else ""
        where = "prompts and generated tokens" if self.prompts else "generated tokens"
        modes = "" if self.heads is None else "; " + self.heads.describe()
        return (
            f"{where} from {self.from_context} tokens of context on drop {self.sparsity:.0%} of the"
            f" units{second}{modes}"
        )

    def kept(self, candidates: int) -> int:
        """Units that the coarse stage keeps of `candidates`."""
        return _ceil(1.0 - self.sparsity, candidates)

    def bounds(self, kept: int) -> tuple[int, int]:
        """Fewest and most units that are read of those that the coarse stage keeps."""
        if not self.adaptive:
            return kept, kept
        low, high = self.drop_range
        return _ceil(1.0 - high, kept), _ceil(1.0 - low, kept)


def units(tokens: int) -> int:
    """Units that hold a number of tokens."""
    return -(-tokens // UNIT)


def _ceil(share: float, count: int) -> int:
    """The share of a count, rounded up; 1 - 0.8 of 10 is 2 although it is more than 0.2 in binary form."""
    return min(count, math.ceil(share * count - 1e-6))
