"""What `r1 backtest` and `r1 whatif` are given: spans, resources, history."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from r1_evaluation.backtest.duration_text import format_duration, parse_duration
from r1_evaluation.backtest.policy_under_test import (
    policy_of_query,
    policy_of_resource,
    read_manifest,
)
from r1_evaluation.backtest.prometheus_trace import fetch_trace
from r1_forecasting.series.series import Series
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason
from r1_operator.api.v1 import parse
from r1_operator.cli.output import CommandFailed


@pytest.mark.parametrize(
    ("text", "seconds"), [("14d", 1_209_600), ("36h", 129_600), ("1.5m", 90), ("2w", 1_209_600)]
)
def test_durations_have_five_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["14", "d", "-1d", "0d", "1 y", "", "1d2h"])
def test_an_invalid_duration_error_shows_the_format(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 14d"):
        parse_duration(text)


def test_durations_are_formatted_in_the_largest_fitting_unit() -> None:
    assert [format_duration(s) for s in (30, 300, 7200, 86_400, 1_209_600)] == [
        *("30 s", "5 m", "2 h", "24 h", "14 d")
    ]


def resource(metrics: list[dict[str, Any]] | None, **spec: Any) -> Any:
    manifest = {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": "r1", "namespace": "team"},
        "spec": spec,
    }
    if metrics is not None:
        manifest["spec"] = {**spec, "autoscaling": {"maxReplicas": 9, "metrics": metrics}}
    return manifest


def test_a_resource_is_replayed_on_the_forecasters_query() -> None:
    metrics = [
        {"type": "MeanLatency", "target": 200},
        {"type": "RequestsPerSecond", "target": 12},
        {"type": "Concurrency", "target": 8},
    ]
    candidate = policy_of_resource(parse(resource(metrics, runtime={"maxConcurrentSequences": 16})))
    assert candidate.name == "team/r1"
    assert candidate.metric.target == 12.0
    assert candidate.not_replayed == ("MeanLatency", "Concurrency")
    assert candidate.seats == 16
    assert candidate.policy.max_replicas == 9
    assert candidate.query == (
        "sum(max by (instance, class) (rate(r1_gateway_requests_offered_total"
        '{inference_namespace="team",inference="r1"}[60s])))'
    )
    assert policy_of_resource(parse(resource(metrics)), "sum(up)").query == "sum(up)"
    assert "[240s]" in policy_of_resource(parse(resource(metrics)), rate_seconds=240).query


def test_a_query_and_a_capacity_replace_a_resource() -> None:
    candidate = policy_of_query("sum(up)", 20.0, 60)
    assert (candidate.metric.target, candidate.policy.max_replicas) == (20.0, 60)


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (None, "no spec.autoscaling"),
        ([{"type": "Concurrency", "target": 8}], "Add RequestsPerSecond"),
    ],
)
def test_a_resource_without_a_replayable_policy_is_refused_with_the_cause(
    metrics: Any, says: str
) -> None:
    with pytest.raises(CommandFailed, match=says):
        policy_of_resource(parse(resource(metrics)))


class TestManifestFiles:
    def test_the_r1inference_among_other_objects_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "all.yaml"
        others = [{"kind": "ConfigMap"}, resource([{"type": "RequestsPerSecond", "target": 1}])]
        path.write_text(yaml.safe_dump_all(others))
        assert read_manifest(path).key == "team/r1"

    @pytest.mark.parametrize(
        ("text", "code", "says"),
        [
            (None, 3, "no such file"),
            ("kind: ConfigMap", 3, "0 R1Inferences"),
            ("kind: R1Inference\n---\nkind: R1Inference", 2, "2 R1Inferences"),
            ("kind: [", 1, "all.yaml"),
            (yaml.safe_dump(resource([{"type": "Load", "target": 1}])), 1, "metrics"),
        ],
    )
    def test_an_unusable_manifest_file_is_refused(
        self, tmp_path: Path, text: str | None, code: int, says: str
    ) -> None:
        path = tmp_path / "all.yaml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(CommandFailed, match=says) as failure:
            read_manifest(path)
        assert failure.value.code == code


class Recorded:
    """A history that answers what a test sets."""

    def __init__(self, answer: Series | ForecastUnavailable) -> None:
        self.answer = answer
        self.request: tuple[Any, ...] = ()

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        self.request = (query, step, since, until)
        return self.answer


class TestHistory:
    def test_rates_become_requests_per_minute_and_gaps_stay_gaps(self) -> None:
        values = np.full(100, 2.0)
        values[10] = np.nan
        history = Recorded(Series(6000.0, 60.0, values))
        trace = fetch_trace(history, "sum(up)", "r1", 6000.0, until=12_030.0)
        assert history.request == ("sum(up)", 60.0, 6000.0, 12_000.0)
        assert trace.per_minute[9:12] == (120.0, None, 120.0)
        assert trace.bucket_seconds == 60.0

    @pytest.mark.parametrize(
        ("reason", "code"),
        [(UnavailableReason.NO_DATA, 3), (UnavailableReason.PROMETHEUS_UNREACHABLE, 1)],
    )
    def test_a_missing_history_error_shows_the_query(
        self, reason: UnavailableReason, code: int
    ) -> None:
        with pytest.raises(CommandFailed, match="sum\\(up\\)") as failure:
            fetch_trace(Recorded(ForecastUnavailable(reason, "no")), "sum(up)", "r1", 6000.0)
        assert failure.value.code == code

    def test_thirty_minutes_of_history_are_refused(self) -> None:
        with pytest.raises(CommandFailed, match="only 30 minutes") as failure:
            fetch_trace(Recorded(Series(0.0, 60.0, np.ones(30))), "sum(up)", "r1", 6000.0)
        assert failure.value.code == 3
