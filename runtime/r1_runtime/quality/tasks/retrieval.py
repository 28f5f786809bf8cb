"""Retrieval of a five-digit code that stands somewhere in a long text.

The texts differ in the place of the code. The text in front of it is computed once, for the deepest
place of the longest text; all others share its blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from r1_runtime.quality.evaluation_set import TextDocument
from r1_runtime.quality.figures import Figure, FigureKind
from r1_runtime.quality.forced_steps import ForcedDecoder, ScoringJob
from r1_runtime.quality.size import EvaluationSize
from r1_runtime.quality.tasks.texts import Tokenizer, continued

_SEED = 7
_SUBJECTS = (
    *("archive", "north gate", "pump room", "library", "observatory", "harbour office"),
    *("greenhouse", "west tower", "printing room", "storehouse", "workshop", "boat house"),
)
_CHARACTERS_PER_TOKEN = 8  # at most, in prose
_SPARE = 8  # tokens between the longest prompt and the wanted length


def measure_retrieval(
    decoder: ForcedDecoder,
    tokenizer: Tokenizer,
    documents: Sequence[TextDocument],
    size: EvaluationSize,
) -> Iterator[Figure]:
    """For each length the share of codes that greedy decoding repeats, and their perplexity.

    Lengths for which the texts are too short are left out.
    """
    longest = _CHARACTERS_PER_TOKEN * max(size.retrieval_lengths, default=0)
    filler = tokenizer.encode("\n\n".join(document.text for document in documents)[:longest])
    generator = np.random.default_rng(_SEED)
    lengths = [each for each in size.retrieval_lengths if each <= len(filler)]
    base = decoder.open()
    decoder.prefill(base, filler[: int(max(lengths, default=0) * max(size.retrieval_depths))])
    for length in lengths:
        codes = generator.integers(10_000, 100_000, len(size.retrieval_depths)).tolist()
        names, right, losses, counts = [], [], [], []
        jobs = []
        for number, (depth, code) in enumerate(zip(size.retrieval_depths, codes, strict=True)):
            subject = _SUBJECTS[number % len(_SUBJECTS)]
            tokens, first, shared = _prompt(tokenizer, filler, length, depth, subject, code)
            names.append(f"depth {depth:g}")
            prefix = decoder.open(base, shared)
            jobs.append(ScoringJob(tokens, first, min(size.tail, len(tokens) - 2), prefix))
        for scores, job in zip(decoder.score(jobs), jobs, strict=True):
            answer = np.array(job.tokens[job.first :], np.int32)
            right.append(float((scores.predicted == answer).all()))
            losses.append(-float(scores.logprobs.sum(dtype=np.float64)))
            counts.append(float(len(answer)))
        for job in jobs:
            if job.prefix is not None:
                decoder.close(job.prefix)
        documents_ = tuple(names)
        ones = (1.0,) * len(names)
        yield Figure(f"retrieval {length}", FigureKind.SHARE, documents_, tuple(right), ones)
        yield Figure(
            f"perplexity of the code, {length}",
            FigureKind.PERPLEXITY,
            documents_,
            tuple(losses),
            tuple(counts),
        )
    decoder.close(base)


def _prompt(
    tokenizer: Tokenizer, filler: list[int], length: int, depth: float, subject: str, code: int
) -> tuple[list[int], int, int]:
    """The prompt with the code as its end, index of the code, and tokens shared with the filler."""
    needle = tokenizer.encode(f"\n\nThe access code of the {subject} is {code}.\n\n")
    question = (
        f"\n\nQuestion: What is the access code of the {subject}?\n"
        f"Answer: The access code of the {subject} is"
    )
    tokens, first = continued(tokenizer, question, f" {code}")
    before = int(length * depth)
    rest = max(0, length - _SPARE - before - len(needle) - len(tokens))
    front = [*filler[:before], *needle, *filler[before : before + rest]]
    return front + tokens, len(front) + first, before
