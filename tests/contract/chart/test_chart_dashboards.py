"""Every query of every dashboard and alert uses exported metrics and labels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exported_metrics import SUFFIXES, exported

Manifest = dict[str, Any]
Dashboard = dict[str, Any]
CHART = Path(__file__).resolve().parents[3] / "helm" / "r1-operator"
FILES = sorted((CHART / "dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def series() -> dict[str, set[str]]:
    """Return each time series' name with its labels."""
    return {
        family.name + suffix: {*family.labels, *(["le"] if suffix == "_bucket" else [])}
        for family in exported()
        for suffix in SUFFIXES[family.kind]
    }


def load(path: Path) -> Dashboard:
    loaded: Dashboard = json.loads(path.read_text())
    return loaded


def queries(dashboard: Dashboard) -> Iterator[tuple[str, str]]:
    """Yield (where, PromQL) of all panels and variables."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            inner = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert inner, variable
            yield variable["name"], f"sum by ({inner[2]}) ({inner[1]})"


def labels_of(query: str) -> set[str]:
    matched = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", query)
    grouped = re.findall(r"\b(?:by|without)\s*\(([^)]*)\)", query)
    return {*matched, *(name.strip() for group in grouped for name in group.split(","))}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dashboards_query_only_exported_metrics(path: Path, series: dict[str, set[str]]) -> None:
    panel_queries = list(queries(load(path)))
    assert panel_queries
    for where, query in panel_queries:
        names = set(re.findall(r"\b(?:r1_|vllm:)\w+", query))
        assert names, f"{where}: no metric of ours in {query}"
        assert names <= series.keys(), f"{where}: {names - series.keys()} is exported by nobody"
        for name in names:
            assert labels_of(query) <= series[name], f"{where}: {name} has not these labels"


def test_alerts_query_only_exported_metrics(series: dict[str, set[str]]) -> None:
    groups = yaml.safe_load((CHART / "alerts" / "r1.yaml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        names = set(re.findall(r"\br1_\w+", rule["expr"]))
        assert names, rule["alert"]
        assert names <= series.keys(), f"{rule['alert']}: {names - series.keys()}"
        for name in names:
            assert labels_of(rule["expr"]) <= series[name], f"{rule['alert']}: {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_legends_use_labels_that_survive_the_query(path: Path) -> None:
    for panel in load(path)["panels"]:
        for target in panel.get("targets", []):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.findall(r"\bby\s*\(([^)]*)\)", target["expr"])
            grouping_labels = {name.strip() for group in grouped for name in group.split(",")}
            assert shown <= grouping_labels, panel["title"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_do_not_overlap_and_have_descriptions(path: Path) -> None:
    dashboard = load(path)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith(".")
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.parametrize(
    ("name", "title", "drawn"),
    [
        (
            "inference",
            "Demand and forecast",
            {
                "r1_operator_demand",
                "r1_operator_forecast_peak",
                "r1_operator_forecast_decision_quantile_value",
            },
        ),
        (
            "forecaster",
            "Forecast and observed load",
            {"r1_forecast_observed", "r1_forecast_peak", "r1_forecast_decision_peak"},
        ),
    ],
)
def test_the_demand_panel_shows_the_forecast_band(name: str, title: str, drawn: set[str]) -> None:
    """The main panel compares demand with the forecast band."""
    panels = load(CHART / "dashboards" / f"{name}.json")["panels"]
    (panel,) = (one for one in panels if one["title"] == title)
    expressions = " ".join(target["expr"] for target in panel["targets"])
    assert drawn == set(re.findall(r"r1_\w+", expressions)), "decisions use only this level"
    band = [
        one
        for one in panel["fieldConfig"]["overrides"]
        if one["properties"][0]["id"] == "custom.fillBelowTo"
    ]
    (filled,) = band
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert filled["matcher"]["options"] in legends
    assert filled["properties"][0]["value"] in legends


WANTED = {
    "forecast against fact": {"r1_forecast_observed", "r1_forecast_peak"},
    "the same as decisions saw it": {"r1_operator_demand", "r1_operator_forecast_peak"},
    "coverage": {"r1_forecast_coverage"},
    "gate": {"r1_forecast_gate_open"},
    "decision cost by model": {"r1_forecast_decision_cost"},
    "cost": {"r1_operator_desired_replicas", "r1_operator_demand_replicas"},
    "at the objective": {"r1_gateway_slo_missed_total", "r1_gateway_requests_offered_total"},
    "decisions": {"r1_operator_decisions_total"},
}


@pytest.mark.parametrize("what", WANTED)
def test_a_panel_shows_each_required_metric(what: str) -> None:
    panels = [panel for path in FILES for panel in load(path)["panels"]]
    shown = [
        set(re.findall(r"r1_\w+", " ".join(t["expr"] for t in panel.get("targets", []))))
        for panel in panels
    ]
    assert any(WANTED[what] <= names for names in shown)


def test_dashboards_have_distinct_uids() -> None:
    uids = [load(path)["uid"] for path in FILES]
    assert len(set(uids)) == len(uids) >= 2


def test_dashboards_are_installed_unchanged(render: Callable[..., list[Manifest]]) -> None:
    installed = {
        name: text
        for manifest in render()
        if manifest["kind"] == "ConfigMap"
        and manifest["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in manifest["data"].items()
    }
    assert installed.keys() == {path.name for path in FILES}
    for path in FILES:
        assert json.loads(installed[path.name]) == load(path)
