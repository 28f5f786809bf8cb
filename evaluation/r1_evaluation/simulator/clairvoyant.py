"""The clairvoyant minimum: the cost of a run that knows all demand and fills every replica.

For each level k, the steps that need k replicas are covered. Each start pays its start-up time before
it serves. A gap no longer than a start-up is bridged, because stopping would save nothing. The first
replica's first start is free.
"""

from __future__ import annotations

import numpy as np

from r1_evaluation.traces.scenario import Bools, Scenario


def least_paid(scenario: Scenario, scored: Bools | None = None) -> float:
    """Return the replica-steps paid on the scored steps at a utilization of one."""
    chosen = (scenario.scored if scored is None else scored)[scenario.decision_steps]
    demand = scenario.demand[scenario.decision_steps]
    need = np.ceil(demand / scenario.capacity - 1e-9).astype(np.int64)
    paid_until = np.concatenate([[0], np.cumsum(chosen)])
    total = 0
    for level in range(1, int(need.max(initial=0)) + 1):
        there = np.concatenate([[False], need >= level, [False]])
        edges = np.flatnonzero(there[1:] != there[:-1])
        begins, ends = edges[::2], edges[1::2]
        parted = begins[1:] - ends[:-1] > scenario.start_steps
        begins = np.concatenate([begins[:1], begins[1:][parted]])
        ends = np.concatenate([ends[:-1][parted], ends[-1:]])
        from_start = np.maximum(begins - scenario.start_steps, 0)
        if level == 1:
            from_start[0] = begins[0]
        total += int((paid_until[ends] - paid_until[from_start]).sum())
    return float(total)
