"""Result of one evaluation, comparable with another of the same texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_runtime.quality.figures import Difference, Figure, differences
from r1_runtime.quality.tasks.agreement import agreement


@dataclass(frozen=True, slots=True)
class QualityResult:
    """Figures of one configuration.

    Attributes:
        arguments: command line of the configuration.
        texts: identity of the evaluation set.
        size: name of the evaluation's size.
        figures: per document.
        predicted: the most probable tokens of the texts, by document.
        greedy: greedy continuations, by document.
        tokens: computed.
        cpu_seconds: of all threads, without loading.
        bytes_per_token: that one decoded token reads at `context` tokens.
        context: tokens of the texts.
    """

    arguments: tuple[str, ...]
    texts: str
    size: str
    figures: tuple[Figure, ...]
    predicted: Mapping[str, tuple[int, ...]]
    greedy: Mapping[str, tuple[int, ...]]
    tokens: int
    cpu_seconds: float
    bytes_per_token: float
    context: int

    def compare(self, baseline: QualityResult) -> list[Difference]:
        """Paired differences, and the agreement with the baseline.

        Raises:
            ValueError: the results are about different texts.
        """
        if (self.texts, self.size) != (baseline.texts, baseline.size):
            raise ValueError(
                f"texts {self.texts} ({self.size}) and {baseline.texts} ({baseline.size}) differ"
            )
        other = (baseline.predicted, baseline.greedy)
        same = tuple(agreement(self.predicted, self.greedy, other))
        perfect = tuple(agreement(*other, other))
        return differences(self.figures + same, baseline.figures + perfect)

    def to_json(self) -> dict[str, Any]:
        """Everything, so that a later evaluation can be compared."""
        return {
            "arguments": list(self.arguments),
            "texts": self.texts,
            "size": self.size,
            "tokens": self.tokens,
            "cpuSeconds": self.cpu_seconds,
            "bytesPerToken": self.bytes_per_token,
            "context": self.context,
            "figures": [each.to_json() for each in self.figures],
            "predicted": {name: list(each) for name, each in self.predicted.items()},
            "greedy": {name: list(each) for name, each in self.greedy.items()},
        }

    def write(self, path: Path) -> None:
        """Store it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json()) + "\n", encoding="utf-8")


def read_result(path: Path) -> QualityResult:
    """A stored result.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no result.
        KeyError: it lacks a field.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    return QualityResult(
        tuple(fields["arguments"]),
        fields["texts"],
        fields["size"],
        tuple(Figure.from_json(each) for each in fields["figures"]),
        {name: tuple(each) for name, each in fields["predicted"].items()},
        {name: tuple(each) for name, each in fields["greedy"].items()},
        fields["tokens"],
        fields["cpuSeconds"],
        fields["bytesPerToken"],
        fields["context"],
    )
