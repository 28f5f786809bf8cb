"""The API server rejects invalid manifests with a message that names the field.

The same table goes to the API server and to `parse`: they must refuse alike.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.v1 import parse

TABLE = yaml.safe_load(Path(__file__).with_name("bad_manifests.yaml").read_text())
GOOD: dict[str, Any] = TABLE["good"]
BAD: list[dict[str, Any]] = TABLE["bad"]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def manifest_of(row: dict[str, Any]) -> dict[str, Any]:
    if "patch" in row:
        manifest: dict[str, Any] = merged(copy.deepcopy(GOOD), row["patch"])
        return manifest
    manifest = copy.deepcopy(GOOD)
    *path, last = [int(part) if part.isdigit() else part for part in row["huge"].split(".")]
    place: Any = manifest
    for part in path:
        place = place[part]
    place[last] = "x" * 100_000
    return manifest


def test_the_manifest_table_is_complete_and_has_no_duplicates() -> None:
    names = [row["name"] for row in BAD]
    assert len(names) >= 40
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", BAD, ids=lambda row: str(row["name"]))
def test_parse_rejects(row: dict[str, Any]) -> None:
    if row.get("only") == "apiserver":
        pytest.skip("the manifest never becomes an object")
    with pytest.raises(Invalid) as refusal:
        parse(manifest_of(row), strict=True)
    field = row["says"][0]
    if field.startswith(("spec", "metadata")):
        assert field in str(refusal.value)


@pytest.mark.apiserver
class TestOnTheServer:
    def test_the_valid_manifest_is_accepted(self, create: Callable[..., dict[str, Any]]) -> None:
        stored = create(GOOD)
        down = stored["spec"]["autoscaling"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] == 300, "a default is filled in"

    @pytest.mark.parametrize("row", BAD, ids=lambda row: str(row["name"]))
    def test_the_api_server_rejects(
        self, row: dict[str, Any], create: Callable[..., dict[str, Any]]
    ) -> None:
        with pytest.raises(ApiException) as refusal:
            create(manifest_of(row))
        text = message_of(refusal.value)
        missing = [fragment for fragment in row["says"] if str(fragment) not in text]
        assert not missing, text[:2000]
        assert 400 <= refusal.value.status < 500


def message_of(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.body)
