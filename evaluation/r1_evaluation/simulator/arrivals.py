"""Open-loop requests for a pool: time, class and lengths.

Interactive requests keep the times of a recorded trace, thinned or repeated to a rate, and its
lengths. Batch requests (Q3) are a Poisson stream with lengths drawn from the same trace.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from r1_common.contracts.priority_classes import PriorityClass
from r1_evaluation.traces.load import RecordedRequest


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at the gateway: seconds from the start, class, lengths in tokens."""

    at: float
    klass: PriorityClass
    prompt_tokens: int
    output_tokens: int


def interactive(
    recorded: Sequence[RecordedRequest], factor: float, urgent_share: float, seed: int
) -> list[Arrival]:
    """The recorded requests `factor` times as often (copies move by up to 1 s), as Q1 or Q2."""
    rng = random.Random(seed)  # noqa: S311 (a simulation, no secret)
    start = recorded[0].at
    found = []
    for one in recorded:
        copies = int(factor) + (rng.random() < factor - int(factor))
        for copy in range(copies):
            at = one.at - start + (rng.uniform(0.0, 1.0) if copy else 0.0)
            klass = PriorityClass.Q1 if rng.random() < urgent_share else PriorityClass.Q2
            found.append(Arrival(at, klass, one.prompt_tokens, one.output_tokens))
    return sorted(found, key=lambda arrival: arrival.at)


def batch(
    recorded: Sequence[RecordedRequest], per_second: float, seconds: float, seed: int
) -> list[Arrival]:
    """Q3 requests at a constant mean rate, with lengths of the trace."""
    rng = random.Random(seed)  # noqa: S311
    found: list[Arrival] = []
    at = rng.expovariate(per_second) if per_second > 0 else seconds
    while at < seconds:
        one = rng.choice(recorded)
        found.append(Arrival(at, PriorityClass.Q3, one.prompt_tokens, one.output_tokens))
        at += rng.expovariate(per_second)
    return found
