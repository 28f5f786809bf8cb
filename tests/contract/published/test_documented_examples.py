"""The examples of docs/published-forecasts.md are taken as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from r1_forecasting.published.catalogue import Catalogue, parse_catalogue
from r1_forecasting.published.external_metrics import find_metric
from r1_forecasting.published.keda.trigger import KNOWN, parse_trigger
from r1_forecasting.published.publication import FIELDS, InferenceName, Publication

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "published-forecasts.md").read_text()
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
]
(VALUES,) = (each for each in EXAMPLES if "kind" not in each)
HPAS = [each for each in EXAMPLES if each.get("kind") == "HorizontalPodAutoscaler"]
(SCALED,) = (each for each in EXAMPLES if each.get("kind") == "ScaledObject")


@pytest.fixture
def catalogue() -> Catalogue:
    return parse_catalogue(json.dumps(VALUES["forecaster"]["published"]))


def test_documented_chart_values_are_accepted() -> None:
    schema = json.loads((ROOT / "helm/r1-operator/values.schema.json").read_text())
    jsonschema.validate(VALUES, schema)


@pytest.mark.parametrize("hpa", HPAS, ids=lambda hpa: hpa["metadata"]["name"])
def test_documented_hpas_find_their_metrics(hpa: dict[str, Any], catalogue: Catalogue) -> None:
    kubernetes_validate.validate(hpa, "1.34", strict=True)
    for metric in hpa["spec"]["metrics"]:
        wanted = metric["external"]["metric"]
        labels = wanted.get("selector", {}).get("matchLabels", {})
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        find_metric(catalogue, hpa["metadata"]["namespace"], wanted["name"], selector)


def test_documented_keda_trigger_is_parsed() -> None:
    (trigger,) = SCALED["spec"]["triggers"]
    where = SCALED["metadata"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes text"
    made = parse_trigger(where["namespace"], where["name"], trigger["metadata"])
    assert isinstance(made.wanted, Publication)
    by_name = parse_trigger("default", "x", {"inference": "production-r1", "threshold": "50"})
    assert by_name.wanted == InferenceName("default", "production-r1")


def test_every_published_field_is_documented() -> None:
    rows = re.findall(r"^\| (`.+?`) \|", TEXT.partition("## Fields")[2], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == FIELDS | KNOWN
