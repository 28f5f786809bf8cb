"""The API server rejects invalid R1Backtests and changes of their spec."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from r1_operator.api.backtest.spec import IMMUTABLE_RULE, parse_backtest
from r1_operator.api.fields.parsing import Invalid

TABLE = yaml.safe_load(Path(__file__).with_name("bad_backtests.yaml").read_text())
GOOD: dict[str, Any] = TABLE["good"]
BAD: list[dict[str, Any]] = TABLE["bad"]
WHERE = ("deepseek.ai", "v1", "default", "r1backtests")


def manifest_of(row: dict[str, Any]) -> dict[str, Any]:
    manifest = copy.deepcopy(GOOD)
    for part, patch in row["patch"].items():
        merged = {**manifest[part], **patch} if patch is not None else None
        manifest[part] = merged and {key: one for key, one in merged.items() if one is not None}
        if merged is None:
            del manifest[part]
    return manifest


@pytest.mark.parametrize("row", BAD, ids=lambda row: str(row["name"]))
def test_parse_rejects(row: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_backtest(manifest_of(row), strict=True)
    assert str(row["says"][0]) in str(refusal.value)


@pytest.mark.apiserver
@pytest.mark.parametrize("row", BAD, ids=lambda row: str(row["name"]))
def test_the_api_server_rejects(row: dict[str, Any], resources: Any) -> None:
    with pytest.raises(ApiException) as refusal:
        resources.create_namespaced_custom_object(
            *WHERE, manifest_of(row), field_validation="Strict", dry_run="All"
        )
    missing = [part for part in row["says"] if str(part) not in str(refusal.value.body)]
    assert not missing, refusal.value.body
    assert 400 <= refusal.value.status < 500


@pytest.mark.apiserver
def test_the_spec_is_immutable_and_its_defaults_are_the_commands(resources: Any) -> None:
    manifest = {**GOOD, "metadata": {"name": "frozen"}, "spec": {"inferenceName": "production-r1"}}
    made = resources.create_namespaced_custom_object(*WHERE, manifest, field_validation="Strict")
    try:
        assert made["spec"]["sinceSeconds"] == 14 * 86_400
        assert made["spec"]["policies"][0] == "static"
        changes: list[dict[str, Any]] = [
            {"startSeconds": 60},
            {"inferenceName": "other"},
            {"policies": []},
        ]
        for change in changes:
            with pytest.raises(ApiException) as refusal:
                resources.patch_namespaced_custom_object(*WHERE, "frozen", {"spec": change})
            assert IMMUTABLE_RULE in refusal.value.body
        labelled = {"metadata": {"labels": {"team": "search"}}}
        resources.patch_namespaced_custom_object(*WHERE, "frozen", labelled)
    finally:
        resources.delete_namespaced_custom_object(*WHERE, "frozen")
