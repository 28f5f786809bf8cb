"""KubeAI's mean against its owner's table, and KEDA's two triggers.

KubeAI: figures of substratusai/kubeai internal/movingaverage/simple_test.go at 2f32ef49 (Apache-2.0);
its scaling has no unit table. KEDA: the triggers are thresholds of a guide, and what divides by them
is the HPA, which is held to the real controller.
"""

import numpy as np
import pytest

from r1_evaluation.baselines.contrib import keda_triggers
from r1_evaluation.baselines.knative_kubeai import kubeai_step
from r1_evaluation.policies import vectorized
from r1_evaluation.traces.windows import trailing_mean


@pytest.mark.parametrize(
    ("window", "values", "mean"),
    [(3, [1, 2, 3], 2), (3, [3, 2, 1], 2), (3, [3, 2, 1, 1, 1, 1], 1), (2, [2, 3], 2.5),
     (3, [2, 2, 2], 2)],
)  # fmt: skip
def test_kubeais_moving_average(window: int, values: list[float], mean: float) -> None:
    assert trailing_mean(np.array(values, dtype=np.float64), window)[-1] == mean


def test_kubeai_waits_for_lower_results_once() -> None:
    count, lower, replica_counts = 9, 0, []
    for wanted in [9, 7, 6, 6, 5, 5, 4, 4, 8, 8, 2, 2, 2]:
        count, lower = kubeai_step(count, wanted, lower, required=3)
        replica_counts.append(count)
    # Three results wait, then each step down is taken at once until one is not lower.
    assert replica_counts == [9, 9, 9, 9, 5, 5, 5, 5, 8, 8, 8, 8, 8]


@pytest.mark.parametrize(
    ("current", "running", "queue", "count"),
    [(4, 4.0, 0.0, 4), (4, 4.4, 0.0, 4), (4, 4.5, 0.0, 5), (4, 4.0, 9.0, 9), (4, 2.0, 0.0, 2)],
)
def test_the_higher_keda_trigger_applies(
    current: int, running: float, queue: float, count: int
) -> None:
    assert keda_triggers.wanted(current, (running, queue)) == count


def test_a_queue_holds_excess_demand_for_one_minute() -> None:
    assert keda_triggers.queued(0.0, 12.0, 10.0) == 30
    assert keda_triggers.queued(30.0, 9.0, 10.0) == 15
    assert keda_triggers.queued(5.0, 2.0, 10.0) == 0
    assert keda_triggers.queued(700.0, 12.0, 10.0) == 720


def test_keda_without_a_queue_equals_an_hpa_on_running_requests() -> None:
    demand = 30 + 10 * np.sin(np.arange(400) / 40)
    late = np.concatenate([demand[:1].repeat(2), demand[:-2]])
    plain = vectorized.hpa_counts(late / 2.5, 60)
    assert keda_triggers.simulate(demand, 5.0, 0.5, 60, 4).tolist() == plain.tolist()


def test_at_full_load_only_the_queue_raises_the_count() -> None:
    demand = np.concatenate([np.full(40, 8.0), np.full(40, 80.0)])
    counts = keda_triggers.simulate(demand, 1.0, 0.8, 60, 4)
    assert counts[39] == 10
    # What runs cannot exceed ten seats' worth, 12.5 at the target; the queue doubles the count.
    assert counts[42] == 20
    assert counts[-1] == 60
