"""Questions with several answers, and passages whose last word is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from r1_runtime.quality.evaluation_set import ChoiceItem, ClozeItem
from r1_runtime.quality.figures import Figure, FigureKind
from r1_runtime.quality.forced_steps import ForcedDecoder, ScoringJob
from r1_runtime.quality.tasks.texts import Tokenizer, continued


def measure_choices(
    decoder: ForcedDecoder, tokenizer: Tokenizer, items: Sequence[ChoiceItem]
) -> Iterator[Figure]:
    """Share of questions whose right answer has the largest log-probability per character."""
    if not items:
        return
    right = []
    for item in items:
        prompt = tokenizer.encode(item.prompt)
        base = decoder.open()
        decoder.prefill(base, prompt)
        jobs = []
        for answer in item.answers:
            tokens, first = continued(tokenizer, item.prompt, answer)
            # All of them share the blocks of the tokens that are surely those of the prompt alone.
            jobs.append(ScoringJob(tokens, first, prefix=decoder.open(base, first - 1)))
        values = [
            float(scores.logprobs.sum(dtype=np.float64)) / len(answer)
            for scores, answer in zip(decoder.score(jobs), item.answers, strict=True)
        ]
        for sequence in (base, *(job.prefix for job in jobs)):
            if sequence is not None:
                decoder.close(sequence)
        right.append(float(int(np.argmax(values)) == item.right))
    names = tuple(item.name for item in items)
    yield Figure("choices", FigureKind.SHARE, names, tuple(right), (1.0,) * len(items))


def measure_clozes(
    decoder: ForcedDecoder, tokenizer: Tokenizer, items: Sequence[ClozeItem]
) -> Iterator[Figure]:
    """Share of passages that greedy decoding completes, and the perplexity of the words."""
    if not items:
        return
    jobs = [ScoringJob(*continued(tokenizer, item.prompt, item.answer)) for item in items]
    right, losses, counts = [], [], []
    for scores, job in zip(decoder.score(jobs), jobs, strict=True):
        answer = np.array(job.tokens[job.first :], np.int32)
        right.append(float((scores.predicted == answer).all()))
        losses.append(-float(scores.logprobs.sum(dtype=np.float64)))
        counts.append(float(len(answer)))
    names = tuple(f"{number} {item.name}" for number, item in enumerate(items))
    yield Figure("cloze", FigureKind.SHARE, names, tuple(right), (1.0,) * len(items))
    yield Figure(
        "perplexity of the cloze words",
        FigureKind.PERPLEXITY,
        names,
        tuple(losses),
        tuple(counts),
    )
