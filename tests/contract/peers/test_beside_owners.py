"""Our fast restatements beside the owners' own code, step by step, on drawn loads.

They run where the owners' packages are (`make bench-forecast` and `r1 leaderboard --policies
all` fetch Dynamo's, `python -m r1_owners` both); nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from r1_board import dynamo, ray_serve
from r1_owners.conversation import Conversation, conversation
from r1_owners.environment import DYNAMO, RAY, Owner, python_of

pytestmark = pytest.mark.owners


@contextmanager
def talking_to(owner: Owner, program: str) -> Iterator[Conversation]:
    python = python_of(owner)
    if python is None:
        pytest.skip(f"{owner.name} has not been installed: python -m r1_owners")
    with conversation(owner, python, program) as talk:
        yield talk


def drawn(seed: int, count: int) -> list[float]:
    """Requests per interval: idle, a walk, a burst, idle again."""
    random = np.random.default_rng(seed)
    walk = np.exp(np.cumsum(random.normal(0, 0.1, count))) * 1000
    walk[: random.integers(0, 5)] = 0
    walk[count // 2 : count // 2 + 5] *= 8
    walk[-7:-4] = 0
    return [float(value) for value in np.round(walk)]


def test_dynamos_constant_and_kalman_say_the_same_at_every_step() -> None:
    with talking_to(DYNAMO, "dynamo_predictors") as talk:
        for seed in range(6):
            values = drawn(seed, 120)
            for name, restated in (("constant", dynamo.constant), ("kalman", dynamo.kalman)):
                for first in (0, 60):
                    asked = {"predictor": name, "values": values, "from": first}
                    theirs = talk.ask(asked)["said"]
                    assert restated(values, first).tolist() == pytest.approx(theirs, rel=1e-9)


def test_dynamos_throughput_planner_gives_the_same_replicas() -> None:
    random = np.random.default_rng(1)
    with talking_to(DYNAMO, "dynamo_planner") as talk:
        for _ in range(200):
            requests, rps = float(random.gamma(1, 2000)), float(random.uniform(0.05, 5))
            asked = {"plan": "throughput", "requests": requests, "interval": 180, "engine_rps": rps}
            assert talk.ask(asked)["replicas"] == dynamo.throughput_step(requests, 180, rps)


def test_dynamos_load_planner_takes_the_same_course() -> None:
    """Its own decisions, tick by tick, in the world that `dynamo.load` plays."""
    worth = np.concatenate([np.linspace(3, 9, 40), np.linspace(9, 1.2, 60), np.full(20, 4.0)])
    start = 4
    with talking_to(DYNAMO, "dynamo_planner") as talk:
        count, counts = 3, [3]
        for value in worth.tolist():
            ready = min(counts[-start - 1 :])
            for _ in range(3):
                usage = [value / ready] * ready
                asked = {"plan": "load", "workers": ready, "expected": count, "usage": usage}
                said = talk.ask(asked)["replicas"]
                count = count if said is None else said
                ready = min(ready, count)
            counts.append(count)
    assert dynamo.load(worth, 60, start).tolist() == counts[1:]


def test_ray_serve_takes_the_same_course() -> None:
    start = 4
    with talking_to(RAY, "ray_serve") as talk:
        for seed in range(6):
            worth = np.array(drawn(seed, 240)) / 300 + 0.01
            ours = ray_serve.course(worth, 1_000_000, start)
            counts = [int(np.ceil(worth[0])), *ours.tolist()]
            seen = [
                [
                    min(counts[max(0, step - start) : step + 1]),
                    2 * float(worth[step - 1 : step + 1].mean()),
                ]
                if step
                else [counts[0], 2 * float(worth[0])]
                for step in range(len(worth))
            ]
            asked = {"period": 15, "target": 2.0, "first": counts[0], "steps": seen}
            assert talk.ask(asked)["targets"] == ours.tolist()
