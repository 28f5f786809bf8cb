"""Agreement with the baseline: the most probable token of each place, and greedy texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from r1_runtime.quality.evaluation_set import TextDocument
from r1_runtime.quality.figures import Figure, FigureKind
from r1_runtime.quality.forced_steps import ForcedDecoder
from r1_runtime.quality.size import SHORT_TOKENS, EvaluationSize
from r1_runtime.quality.tasks.texts import Tokenizer

Texts = Mapping[str, Sequence[int]]
"""Tokens by document."""


def greedy_texts(
    decoder: ForcedDecoder,
    tokenizer: Tokenizer,
    documents: Sequence[TextDocument],
    size: EvaluationSize,
) -> dict[str, tuple[int, ...]]:
    """Greedy continuations of the beginnings of the last documents."""
    chosen = documents[-size.greedy_prompts :]
    prompts = [
        tokenizer.encode(document.text)[: min(SHORT_TOKENS, size.longest - size.greedy_tokens)]
        for document in chosen
    ]
    outputs = decoder.generate(prompts, size.greedy_tokens)
    return {document.name: tuple(output) for document, output in zip(chosen, outputs, strict=True)}


def agreement(predicted: Texts, greedy: Texts, baseline: tuple[Texts, Texts]) -> Iterator[Figure]:
    """Two shares: of equal most probable tokens, and of greedy tokens before the first difference.

    Args:
        predicted: the most probable tokens of the texts.
        greedy: greedy continuations.
        baseline: the same two of the configuration to compare with.
    """
    names = tuple(name for name in predicted if name in baseline[0])
    pairs = [(predicted[name], baseline[0][name]) for name in names]
    yield Figure(
        "same most probable token",
        FigureKind.SHARE,
        names,
        tuple(float(sum(a == b for a, b in zip(*pair, strict=False))) for pair in pairs),
        tuple(float(len(pair[1])) for pair in pairs),
    )
    names = tuple(name for name in greedy if name in baseline[1])
    pairs = [(greedy[name], baseline[1][name]) for name in names]
    yield Figure(
        "same greedy text",
        FigureKind.SHARE,
        names,
        tuple(float(common_length(*pair)) for pair in pairs),
        tuple(float(len(pair[1])) for pair in pairs),
    )


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of equal tokens before the first difference."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))
