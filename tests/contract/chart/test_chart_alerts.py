"""Every alert queries exported metrics, fires for its fault, and has a runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_cluster.programs import debian

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "helm" / "r1-operator" / "alerts" / "r1.yaml"
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()
LOADED: dict[str, Any] = yaml.safe_load(RULES.read_text())
ALERTS: list[dict[str, Any]] = [rule for group in LOADED["groups"] for rule in group["rules"]]

TEAM = 'inference_namespace="team", inference="chat"'
# Alert -> series that fire it, and when (promtool's notation: start + increment x samples).
STORIES: dict[str, tuple[dict[str, str], str]] = {
    "R1NoLeader": ({"r1_operator_is_leader": "0x60"}, "5m"),
    "R1ReconcileFailing": ({'r1_operator_reconciles_total{outcome="failed"}': "0+1x60"}, "20m"),
    "R1GatewayUnreachable": ({'r1_operator_gateways{state="unreachable"}': "1x60"}, "5m"),
    "R1WatchEventsMissed": ({'r1_operator_relist_repairs_total{kind="Pod"}': "0+1x60"}, "30m"),
    "R1RequestsRejected": (
        {
            f'r1_gateway_rejected_total{{{TEAM}, class="Q1", reason="QueueFull"}}': "0+3x60",
            f'r1_gateway_requests_offered_total{{{TEAM}, class="Q1"}}': "0+100x60",
        },
        "25m",
    ),
    "R1SLOMissed": (
        {
            f'r1_gateway_slo_missed_total{{{TEAM}, class="Q1"}}': "0+2x90",
            f'r1_gateway_requests_offered_total{{{TEAM}, class="Q1"}}': "0+100x90",
        },
        "50m",
    ),
    "R1ScalingLimited": (
        {
            f'r1_operator_demand_replicas{{{TEAM}, metric="RequestsPerSecond"}}': "6x60",
            f"r1_operator_desired_replicas{{{TEAM}}}": "4x60",
        },
        "20m",
    ),
    "R1BacktestFailed": (
        {'r1_operator_backtests_finished_total{phase="Failed"}': "0x10 1x50"},
        "15m",
    ),
    "R1ForecastCoverageLost": (
        {'r1_forecast_coverage{series="team/chat", level="0.9"}': "0.7x90"},
        "65m",
    ),
    "R1ForecastsUnavailable": (
        {'r1_forecast_responses_total{state="Unavailable", reason="NoData"}': "0+1x90"},
        "60m",
    ),
    "R1ForecastShardUnreachable": (
        {'r1_forecast_forwarded_total{shard="r1-forecaster-1", outcome="NoResponse"}': "0+3x60"},
        "10m",
    ),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    if shutil.which("promtool") is None:
        debian.ensure_packages({"promtool": "prometheus"})
    program = shutil.which("promtool")
    assert program is not None
    return program


def test_every_alert_has_a_test_case_and_a_runbook() -> None:
    names = [rule["alert"] for rule in ALERTS]
    assert sorted(STORIES) == sorted(names)
    assert re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE) == names
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"].endswith(".")


def test_annotations_use_labels_that_the_alert_has() -> None:
    for rule in ALERTS:
        shown = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        grouped = re.search(r"by \(([^)]*)\)", rule["expr"])
        if grouped:
            labels = {label.strip() for label in grouped[1].split(",")}
        else:
            labels = set(re.findall(r'(\w+)="', " ".join(STORIES[rule["alert"]][0])))
        assert shown <= labels, rule["alert"]


def test_the_chart_installs_alerts_when_enabled(
    render: Callable[..., list[dict[str, Any]]],
) -> None:
    assert not [m for m in render() if m["kind"] == "PrometheusRule"]
    (rule,) = (m for m in render("alerts.enabled=true") if m["kind"] == "PrometheusRule")
    assert rule["spec"] == LOADED


def test_the_rules_are_valid(promtool: str) -> None:
    done = subprocess.run(
        [promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


@pytest.mark.parametrize("name", sorted(STORIES))
def test_an_alert_fires_for_its_fault_and_not_otherwise(
    name: str, promtool: str, tmp_path: Path
) -> None:
    series, at = STORIES[name]
    quiet = {"r1_operator_is_leader": "1x90"}
    loud = {"r1_operator_is_leader": "1x90"} | series
    body = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": one, "values": v} for one, v in given.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)',
                        "eval_time": at,
                        "exp_samples": [{"labels": "{}", "value": firing}],
                    }
                ],
            }
            for given, firing in ((loud, 1), (quiet, 0))
        ],
    }
    file = tmp_path / "story.yaml"
    file.write_text(yaml.safe_dump(body))
    done = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
