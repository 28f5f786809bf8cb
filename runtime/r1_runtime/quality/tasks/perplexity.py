"""Perplexity of texts, and how often the most probable token is that of the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from r1_runtime.quality.evaluation_set import TextDocument
from r1_runtime.quality.figures import Figure, FigureKind
from r1_runtime.quality.forced_steps import ForcedDecoder, ScoringJob
from r1_runtime.quality.size import EvaluationSize
from r1_runtime.quality.tasks.texts import Tokenizer

_CHARACTERS_PER_TOKEN = 5  # at most, in English prose


@dataclass(frozen=True, slots=True)
class TextScores:
    """Figures of the texts, and the most probable token at each place.

    Attributes:
        figures: perplexities of the whole texts, of their first and their other tokens, and of those
            computed one by one.
        predicted: by document, [tokens - 1] the most probable tokens.
    """

    figures: tuple[Figure, ...]
    predicted: dict[str, tuple[int, ...]]


def measure_texts(
    decoder: ForcedDecoder,
    tokenizer: Tokenizer,
    documents: Sequence[TextDocument],
    size: EvaluationSize,
) -> TextScores:
    """Score the first `size.context` tokens of `size.documents` texts, long enough ones first."""
    enough = _CHARACTERS_PER_TOKEN * size.context
    chosen = sorted(documents, key=lambda each: len(each.text) < enough)[: size.documents]
    jobs = []
    for document in chosen:
        tokens = tokenizer.encode(document.text)[: size.context]
        jobs.append(ScoringJob(tokens, tail=min(size.tail, len(tokens) - 2)))
    scores = decoder.score(jobs)
    losses = [-each.logprobs for each in scores]
    names = tuple(document.name for document in chosen)
    early = size.context // 4
    figures = [
        _perplexity("perplexity", names, losses),
        _perplexity(f"perplexity, tokens 1-{early}", names, [each[:early] for each in losses]),
        _perplexity(f"perplexity, tokens from {early}", names, [each[early:] for each in losses]),
        _perplexity(
            "perplexity, one by one",
            names,
            [each[len(each) - job.tail :] for each, job in zip(losses, jobs, strict=True)],
        ),
    ]
    predicted = {
        name: tuple(each.predicted.tolist()) for name, each in zip(names, scores, strict=True)
    }
    return TextScores(tuple(figures), predicted)


def _perplexity(
    name: str, documents: tuple[str, ...], losses: Sequence[NDArray[np.float32]]
) -> Figure:
    return Figure(
        name,
        FigureKind.PERPLEXITY,
        documents,
        tuple(float(each.sum(dtype=np.float64)) for each in losses),
        tuple(float(len(each)) for each in losses),
    )
