"""The pool under an autoscaler: nobody gets lost uncounted, drains wait, failures are replaced."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from r1_common.contracts.priority_classes import DEFAULT_POLICIES, PriorityClass
from r1_evaluation.simulator.arrivals import Arrival
from r1_evaluation.simulator.elastic import ElasticOutcome, ElasticPool
from r1_evaluation.simulator.engine import EngineSpeed
from r1_evaluation.simulator.fleet import DRAINED, KUBERNETES, Ending
from r1_evaluation.simulator.scalers import Hpa, Knative, Ours, Scaler, ScalerInput

Q2 = PriorityClass.Q2
SPEED = EngineSpeed(
    base_seconds=0.02,
    per_sequence_seconds=0.001,
    per_prefill_token_seconds=0.0001,
    chunk_tokens=100,
    seats=4,
)
CAPACITY = 4 / (100 * 0.024)  # requests/s of a full replica, of 100 output tokens


@dataclass
class Scripted:
    """Says what a script says of the time."""

    script: Callable[[float], int]
    begun: float = math.nan

    def tick(self, view: ScalerInput, now: float) -> int:
        if math.isnan(self.begun):
            self.begun = now
        return self.script(now - self.begun)


def play(
    arrivals: Sequence[Arrival],
    scaler: Scaler,
    *,
    ending: Ending = DRAINED,
    replicas: int = 2,
    seconds: float = 600.0,
    start: float = 30.0,
    life: float = math.inf,
) -> ElasticOutcome:
    pool = ElasticPool(
        SPEED, DEFAULT_POLICIES, ending, start_seconds=lambda: start, mean_life_seconds=life, seed=3
    )
    return pool.run(arrivals, scaler, replicas=replicas, warm_up=0.0, seconds=seconds)


def steady(per_second: float, seconds: float, tokens: int = 100) -> list[Arrival]:
    count = int(per_second * seconds)
    return [Arrival(0.5 + n / per_second, Q2, 10, tokens) for n in range(count)]


def accounted(result: ElasticOutcome) -> int:
    lost = result.lost_on_scale_down + result.lost_on_failure
    return len(result.delays) + lost


def test_cost_includes_start_and_drain_time() -> None:
    result = play([], Scripted(lambda t: 3 if t >= 100 else 1), replicas=1)
    assert result.paid_seconds == pytest.approx(600 + 2 * 500)
    assert result.actions == 1


def test_a_drained_stream_completes_and_a_stopped_one_is_lost() -> None:
    """A stream of 90 s; the count falls at 20 s."""
    long = [Arrival(1.0, Q2, 10, 4000), Arrival(1.1, Q2, 10, 4000)]
    fall = Scripted(lambda t: 1 if t >= 20 else 2)
    drained = play(long, fall)
    assert (drained.completed, drained.lost_on_scale_down) == (2, 0)
    assert drained.paid_seconds > 600 + 80  # the leaving one was paid until its stream's end
    cut = play(long, Scripted(fall.script), ending=KUBERNETES)
    assert (cut.completed, cut.lost_on_scale_down) == (1, 1)


def test_scale_down_removes_an_idle_replica_first() -> None:
    busy = [Arrival(1.0, Q2, 10, 4000)]
    result = play(busy, Scripted(lambda t: 1 if t >= 20 else 2), ending=Ending(True, 0.0))
    assert (result.completed, result.lost_on_scale_down) == (1, 0)


def test_a_failure_loses_started_requests_and_retries_the_others() -> None:
    arrivals = steady(2.0, 500.0)
    result = play(arrivals, Scripted(lambda _: 4), replicas=4, life=120.0)
    assert result.lost_on_failure > 0
    assert accounted(result) == len(arrivals) == result.offered
    assert result.completed > 0.9 * len(arrivals)


@pytest.mark.parametrize("ending", [DRAINED, KUBERNETES], ids=["drained", "kubernetes"])
@pytest.mark.parametrize(
    "scaler",
    [
        lambda: Ours(0.7, CAPACITY, 30.0),
        lambda: Hpa(0.7, CAPACITY),
        lambda: Knative(0.7, CAPACITY),
    ],
    ids=["ours", "hpa", "knative"],
)
def test_a_varying_load_is_followed_and_every_request_accounted_for(
    scaler: Callable[[], Scaler], ending: Ending
) -> None:
    quiet, loud = steady(1.0, 200.0), [
        Arrival(200.0 + each.at, Q2, 10, 100) for each in steady(10.0, 400.0)
    ]  # fmt: skip
    after = [Arrival(600.0 + each.at, Q2, 10, 100) for each in steady(1.0, 600.0)]
    arrivals = [*quiet, *loud, *after]
    result = play(arrivals, scaler(), ending=ending, seconds=1300.0)
    assert accounted(result) == len(arrivals)
    counts = result.counts
    assert max(counts[200:300]) >= 10 * 0.7 / CAPACITY
    assert counts[-1] <= 2
    assert sum(math.isfinite(delay) for delay in result.delays) > 0.8 * len(arrivals)


def test_violations_are_lost_and_late_requests() -> None:
    result = ElasticOutcome(offered=10, lost_on_scale_down=1, lost_on_failure=1)
    result.delays = [0.0] * 5 + [6.0, 7.0, math.inf]
    assert result.violations(5.0) == pytest.approx(0.5)
    assert ElasticOutcome().violations(5.0) == 0.0
