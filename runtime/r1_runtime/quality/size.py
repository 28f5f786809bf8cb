"""How much an evaluation computes."""

from __future__ import annotations

from dataclasses import dataclass, replace

SHORT_TOKENS = 160
"""Most tokens of a greedy prompt."""


@dataclass(frozen=True, slots=True)
class EvaluationSize:
    """Counts of the parts of an evaluation.

    Attributes:
        name: for reports.
        documents: texts whose perplexity is measured.
        context: tokens of each.
        tail: last tokens of each text and of each retrieval prompt that are computed one by one, as in
            decoding; they have a perplexity of their own.
        retrieval_lengths: tokens of the texts that hide a code.
        retrieval_depths: places of the code, as shares of the text.
        choices: questions with several answers.
        clozes: passages.
        greedy_prompts: prompts that are continued greedily.
        greedy_tokens: tokens of each continuation.
    """

    name: str
    documents: int
    context: int
    tail: int
    retrieval_lengths: tuple[int, ...]
    retrieval_depths: tuple[float, ...]
    choices: int
    clozes: int
    greedy_prompts: int
    greedy_tokens: int

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max((*self.retrieval_lengths, self.context, SHORT_TOKENS + self.greedy_tokens))

    @property
    def most_tokens(self) -> int:
        """Tokens that the cache has to hold at a time."""
        several = max(4 * self.context, self.greedy_prompts * (SHORT_TOKENS + self.greedy_tokens))
        return max(2 * self.longest, several)

    def within(self, positions: int) -> EvaluationSize:
        """The same for a model of so many positions: longer texts are cut or left out."""
        return replace(
            self,
            context=min(self.context, positions),
            retrieval_lengths=tuple(each for each in self.retrieval_lengths if each <= positions),
            greedy_tokens=min(self.greedy_tokens, positions // 2),
        )


# Tokens and CPU time are those of SmolLM2-135M in float32 on one AVX2 core.
QUICK = EvaluationSize(  # 12,000 tokens, 65 s
    "quick", 6, 512, 32, (1024,), (0.1, 0.5, 0.9), 24, 32, 4, 24
)
DEFAULT = EvaluationSize(  # 50,000 tokens, 5 min
    "default", 8, 2048, 64, (1024, 2048, 4096), (0.1, 0.5, 0.9), 64, 96, 8, 48
)
FULL = EvaluationSize(  # long contexts: 160,000 tokens, half an hour
    "full", 12, 4096, 64, (1024, 2048, 4096, 8000), (0.1, 0.3, 0.5, 0.7, 0.9), 150, 136, 12, 64
)
TINY = EvaluationSize(  # for tests
    "tiny", 3, 96, 16, (128,), (0.2, 0.8), 3, 3, 2, 8
)
SIZES = {each.name: each for each in (QUICK, DEFAULT, FULL, TINY)}
