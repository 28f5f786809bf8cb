"""Fluid simulation: the service and the cost of replica counts.

A replica is paid from the step that starts it, and serves after its start-up time. Scale-down removes
replicas that still start first. Replicas therefore form a stack, and the k-th serves when the count
was at least k through the whole start-up time. With equal start-up times, the serving count is the
running minimum of the count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_evaluation.traces.scenario import STEP_SECONDS, Bools, Ints, Scenario
from r1_evaluation.traces.windows import running_max


@dataclass(frozen=True, slots=True)
class ServiceOutcome:
    """Paid replica-steps, share of requests overloaded, and changes of the count per hour."""

    paid: float
    overload: float
    actions_per_hour: float


def serving_counts(counts: Ints, start_steps: int) -> Ints:
    """Return the serving replicas at each step; the first count serves from the start."""
    return np.asarray(-running_max(-counts, start_steps + 1), dtype=np.int64)


def serving_counts_with_drawn_starts(counts: Ints, starts: Sequence[int], seed: int) -> Ints:
    """Return the serving replicas with start-up times drawn from `starts` (steps)."""
    drawn = np.random.default_rng(seed)
    ready = np.zeros(len(counts), dtype=np.int64)
    for level in range(1, int(counts.max()) + 1):
        there = np.concatenate([[False], counts >= level, [False]])
        edges = np.flatnonzero(there[1:] != there[:-1])
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            start = 0 if begin == 0 else starts[int(drawn.integers(len(starts)))]
            ready[begin + start : end] += 1  # empty for a replica that was stopped before it served
    return ready


def service_outcome(
    scenario: Scenario, counts: Ints, ready: Ints, scored: Bools | None = None
) -> ServiceOutcome:
    """Score replica counts over the decision steps; `scored` narrows the scored steps."""
    chosen = (scenario.scored if scored is None else scored)[scenario.decision_steps]
    demand = scenario.demand[scenario.decision_steps]
    over = chosen & (demand > ready * scenario.capacity * (1 + 1e-9))
    offered = float(demand[chosen].sum())
    changes = np.count_nonzero((np.diff(counts) != 0) & chosen[1:])
    hours = np.count_nonzero(chosen) * STEP_SECONDS / 3600
    return ServiceOutcome(
        paid=float(counts[chosen].sum()),
        overload=float(demand[over].sum()) / offered if offered > 0 else 0.0,
        actions_per_hour=changes / hours if hours else 0.0,
    )
