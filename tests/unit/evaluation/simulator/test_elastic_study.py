"""The study at request level: engines fit the trace, curves are read at one cost."""

import pytest

from r1_evaluation.simulator.elastic_study import (
    MEAN_REPLICAS,
    POLICIES,
    ElasticPoint,
    hour_of,
    late_at,
    play,
)
from r1_evaluation.traces.load import RecordedRequest, RequestTrace


def point(cost: float, late: float) -> ElasticPoint:
    return ElasticPoint(0.7, cost, late, 0.0, 0.0, 0.0, 0.0)


def test_a_curve_is_interpolated_and_not_extrapolated() -> None:
    points = [point(10.0, 0.02), point(8.0, 0.10), point(9.0, 0.12)]
    assert late_at(points, 9.5) == pytest.approx(0.06)  # the worse point at 9 counts for nothing
    assert late_at(points, 20.0) is None
    assert late_at(points, 1.0) is None


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_engine_speed_scales_to_the_load_of_the_hour(policy: str) -> None:
    recorded = tuple(RecordedRequest(0.5 * n, 500, 50) for n in range(2400))
    hour = hour_of(RequestTrace("even", recorded))
    result = play(hour, policy, 0.7, 60.0, seed=0)
    scored = hour.seconds - 300
    assert result.paid_seconds / scored == pytest.approx(MEAN_REPLICAS / 0.7, abs=1.5)
    assert result.violations(5.0) < 0.05
    # At a seventh more than the mean load even a fixed count is full, and below it falls behind.
    assert play(hour, "static", 1.3, 60.0, seed=0).violations(5.0) > 0.5
