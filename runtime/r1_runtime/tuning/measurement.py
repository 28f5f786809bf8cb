"""What a technique costs and saves, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1_runtime.quality.figures import Difference
from r1_runtime.quality.timing import TimeRatio
from r1_runtime.tuning.technique import Technique

_SAVES = 0.97  # ratios above are noise


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of the table.

    Attributes:
        technique: what was measured.
        differences: quality against the dense configuration; empty for an exact technique.
        decode: CPU time per output token, as a share of the baseline's.
        prefill: CPU time per prompt token, as a share of the baseline's.
        bytes_ratio: bytes that a decoded token reads, as a share of the dense configuration's.
        equal_texts: of an exact technique, share of greedy tokens that are equal.
        refused: why it was not measured; empty if it was.
    """

    technique: Technique
    differences: tuple[Difference, ...] = ()
    decode: TimeRatio | None = None
    prefill: TimeRatio | None = None
    bytes_ratio: float | None = None
    equal_texts: float | None = None
    refused: str = ""

    def difference(self, name: str) -> Difference | None:
        """The difference of a figure, or None."""
        return next((each for each in self.differences if each.name == name), None)

    @property
    def loss(self) -> Difference | None:
        """The perplexity that is lost."""
        return self.difference("perplexity")

    def missed(self) -> list[str]:
        """The limits that the measurement does not keep, with both figures."""
        bars, found = self.technique.bars, []
        loss, retrieval = self.loss, self.difference("retrieval")
        if bars.perplexity is not None and loss is not None and loss.change > bars.perplexity:
            found.append(f"perplexity {loss.change:+.2f} % > +{bars.perplexity:g} %")
        if retrieval is not None and retrieval.retained < (bars.retrieval or 0):
            found.append(f"retrieval {retrieval.retained:.0%} < {bars.retrieval:.0%} of dense")
        for name, ratio, most in (
            ("decode", self.decode, bars.decode),
            ("prefill", self.prefill, bars.prefill),
        ):
            if ratio is not None and most is not None and ratio.median > most:
                found.append(f"{name} {ratio.median:.2f} > {most:.2f} of dense")
        if self.equal_texts is not None and self.equal_texts < 1:
            found.append(f"{self.equal_texts:.1%} of greedy tokens equal")
        return found

    @property
    def saves(self) -> bool:
        """Whether bytes are saved, or time in every turn."""
        times = [each for each in (self.decode, self.prefill) if each is not None]
        fewer = self.bytes_ratio is not None and self.bytes_ratio < _SAVES
        return fewer or any(each.median < _SAVES and each.high < 1 for each in times)

    def verdict(self) -> str:
        """One phrase: whether it pays, or which limit it misses."""
        if self.refused:
            return f"refused: {self.refused}"
        missed = self.missed()
        if not self.saves:
            return "; ".join(["does not pay: saves neither time nor bytes", *missed])
        return "misses: " + "; ".join(missed) if missed else "pays"

    def to_json(self) -> dict[str, Any]:
        """All values, for `--json` and reports."""
        technique = self.technique
        ratios: Mapping[str, TimeRatio | None] = {"decode": self.decode, "prefill": self.prefill}
        return {
            "name": technique.name,
            "kind": technique.kind.value,
            "claim": technique.claim,
            "switch": technique.switch(),
            "verdict": self.verdict(),
            "missedBars": self.missed(),
            "refused": self.refused or None,
            "bytesRatio": self.bytes_ratio,
            "equalTexts": self.equal_texts,
            "cpuTime": {name: each and each.to_json() for name, each in ratios.items()},
            "quality": [each.to_json() for each in self.differences],
        }
