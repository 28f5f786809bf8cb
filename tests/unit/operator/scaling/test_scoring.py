"""Scores of past decisions beside a simulated HorizontalPodAutoscaler."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from queueing_service import QueueingService
from r1_operator.api.scaling import MetricType
from r1_operator.plan.scaling.policy import MetricTarget, ScalingPolicy
from r1_operator.plan.scaling.scoring import Score, score


def book(
    *entries: tuple[float, int, int | None, float | None], first: int = 2, lead: float = 30.0
) -> list[dict[str, Any]]:
    """Decisions of (at, replicas, HPA replicas, demand in replicas)."""
    decisions: list[dict[str, Any]] = []
    current = first
    for at, replicas, reactive, worth in entries:
        inputs = {"demandInReplicas": worth, "leadTime": {"seconds": lead, "measuredStarts": 3}}
        decisions.append(
            {
                "at": at,
                "current": current,
                "replicas": replicas,
                "hpaReplicas": reactive,
                "inputs": inputs,
            }
        )
        current = replicas
    return decisions


def test_rising_earlier_costs_replica_seconds_and_saves_overload() -> None:
    """Scaled up at 0 for a load at 30; the HPA scales up at 30 and serves at 60."""
    decisions = book(
        (0, 4, 2, 1.5), (10, 4, 2, 1.5), (20, 4, 2, 1.5), (30, 4, 4, 3.5),
        (40, 4, 4, 3.5), (50, 4, 4, 3.5), (60, 4, 4, 3.5), (70, 4, 4, 3.5),
    )  # fmt: skip
    first, *others = score(decisions)
    assert first == Score(
        seconds=70,
        saved_replica_seconds=-60,
        overload_seconds=0,
        hpa_overload_seconds=30,
    )
    assert others == [None] * 7
    assert first.message == (
        "60 more replica-seconds than a HorizontalPodAutoscaler in 70 s; overloaded for 0 s "
        "(HorizontalPodAutoscaler: 30 s)"
    )


def test_a_decision_lasts_until_the_next_change() -> None:
    decisions = book((0, 3, 3, 1.0), (10, 3, 3, 1.0), (20, 2, 4, 1.0), (60, 2, 4, 1.0))
    scores = score(decisions)
    assert [one and (one.seconds, one.saved_replica_seconds) for one in scores] == [
        (20, 0),
        None,
        (40, 80),
        None,
    ]


def test_a_decision_younger_than_its_lead_time_has_no_score() -> None:
    assert score(book((0, 4, 2, 1.0), (29, 4, 2, 1.0))) == [None, None]
    assert score(book((0, 4, 2, 1.0), (30, 4, 2, 1.0)))[0] is not None


def test_a_score_needs_a_simulated_hpa_and_a_known_load() -> None:
    assert score(book((0, 4, None, 1.0), (60, 4, 2, 1.0))) == [None, None]
    [first, _] = score(book((0, 4, 2, None), (60, 4, 2, None)))
    assert first is not None
    assert first.overload_seconds is None
    assert "unknown" in first.message


def test_a_scale_down_stops_serving_at_once() -> None:
    [first, _] = score(book((0, 1, 2, 1.5), (60, 1, 2, 1.5)))
    assert first is not None
    assert (first.overload_seconds, first.hpa_overload_seconds) == (60, 0)


@pytest.mark.parametrize("decisions", [[], book((0, 2, 2, 1.0))])
def test_a_short_book_has_no_scores(decisions: list[dict[str, Any]]) -> None:
    assert score(decisions) == [None] * len(decisions)


def test_scores_of_a_simulation_add_up(stage: Callable[..., Any]) -> None:
    """The savings add up to the difference of both counts."""
    policy = ScalingPolicy(1, 20, (MetricTarget(MetricType.REQUESTS_PER_SECOND, 10.0),))
    story = QueueingService(policy, 2)
    story.play(300, 8.0)
    story.play(900, 40.0)
    decisions = [json.loads(json.dumps(one.to_json())) for one in story.decisions]
    scores = score(decisions)
    moves = [n for n, one in enumerate(decisions) if one["replicas"] != one["current"]]
    assert [n for n, one in enumerate(scores) if one is not None] == moves
    saved = sum(one.saved_replica_seconds for one in scores if one is not None)
    after = decisions[moves[0] : -1]
    assert saved == pytest.approx(
        sum((one["hpaReplicas"] - one["replicas"]) * 2.0 for one in after), rel=1e-6
    )
