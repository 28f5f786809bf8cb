"""Prompts for the whole engine, made from the texts of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from r1_runtime.quality.evaluation_set import TextDocument
from r1_runtime.quality.tasks.texts import Tokenizer
from r1_runtime.quality.timing import TimingSize
from r1_runtime.tuning.technique import Workload

_QUESTIONS = (
    "What is this text about?",
    "Name one thing that the text explains.",
    "Who would read this text?",
    "Give the text a title.",
)
_SPARE = 64


@dataclass(frozen=True, slots=True)
class EngineWork:
    """Turns of prompts.

    Attributes:
        workload: what the prompts are.
        turns: number of turns.
        length: tokens of a text.
        count: output tokens of a prompt.
    """

    workload: Workload
    turns: int
    length: int
    count: int

    @property
    def most_tokens(self) -> int:
        """Longest prompt with its output."""
        return 3 * self.length + self.count + _SPARE

    def prompts(
        self, tokenizer: Tokenizer, documents: Sequence[TextDocument]
    ) -> list[list[list[int]]]:
        """The prompts of each turn."""
        turns = []
        for number in range(self.turns):
            document = documents[number % len(documents)]
            tokens = tokenizer.encode(document.text)[: self.length]
            if self.workload is Workload.COPYING:
                again = tokenizer.encode("\n\n" + document.text)
                turns.append([[*tokens, *again[: len(tokens)], *again[: self.length // 4]]])
            elif self.workload is Workload.SHARED_PREFIX:
                asked = [tokenizer.encode(f"\n\nQuestion: {each}\nAnswer:") for each in _QUESTIONS]
                turns.append([[*tokens, *each[:_SPARE]] for each in asked])
            else:
                turns.append([tokens])
        return turns


def prompts_for(workload: Workload, timing: TimingSize) -> EngineWork:
    """The work of a technique: as many turns and tokens as other comparisons have."""
    if workload is Workload.SHARED_PREFIX:
        return EngineWork(workload, timing.rounds, timing.context, 8)
    return EngineWork(workload, timing.rounds, timing.context // 4, 4 * timing.decoded)
