"""One evaluation: every part on one loaded configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator

from r1_runtime.quality.configuration import LoadedConfiguration
from r1_runtime.quality.evaluation_set import EvaluationSet
from r1_runtime.quality.figures import Figure
from r1_runtime.quality.progress import Progress
from r1_runtime.quality.result import QualityResult
from r1_runtime.quality.tasks.agreement import greedy_texts
from r1_runtime.quality.tasks.perplexity import measure_texts
from r1_runtime.quality.tasks.questions import measure_choices, measure_clozes
from r1_runtime.quality.tasks.retrieval import measure_retrieval


def evaluate(
    loaded: LoadedConfiguration, texts: EvaluationSet, progress: Progress = lambda _: None
) -> QualityResult:
    """Evaluate a loaded configuration.

    Args:
        loaded: the configuration.
        texts: what it is evaluated on.
        progress: called at the beginning of each part.
    """
    decoder, tokenizer, size = loaded.decoder, loaded.tokenizer, loaded.size
    tokens, started = decoder.computed_tokens, time.process_time()
    progress("perplexity")
    scores = measure_texts(decoder, tokenizer, texts.documents, size)
    figures = list(scores.figures)
    progress("greedy text")
    greedy = greedy_texts(decoder, tokenizer, texts.documents, size)
    progress("retrieval")
    figures += measure_retrieval(decoder, tokenizer, texts.documents[::-1], size)
    progress("questions")
    figures += measure_choices(decoder, tokenizer, texts.choices[: size.choices])
    figures += measure_clozes(decoder, tokenizer, texts.clozes[: size.clozes])
    return QualityResult(
        arguments=tuple(loaded.config.arguments()),
        texts=texts.identity(),
        size=size.name,
        figures=tuple(_all_retrieval(figures)),
        predicted=scores.predicted,
        greedy=greedy,
        tokens=decoder.computed_tokens - tokens,
        cpu_seconds=time.process_time() - started,
        bytes_per_token=loaded.traffic.at(size.context),
        context=size.context,
    )


def _all_retrieval(figures: list[Figure]) -> Iterator[Figure]:
    """The figures, and one of the retrieval at all lengths."""
    yield from figures
    parts = [each for each in figures if each.name.startswith("retrieval ")]
    if parts:
        yield Figure(
            "retrieval",
            parts[0].kind,
            tuple(f"{part.name}, {name}" for part in parts for name in part.documents),
            tuple(value for part in parts for value in part.totals),
            tuple(value for part in parts for value in part.weights),
        )
