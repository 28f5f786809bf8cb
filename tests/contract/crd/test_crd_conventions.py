"""The CRDs follow the Kubernetes API conventions: the rules of kube-api-linter on the schema.

kube-api-linter itself reads Go types; its list of rules is the specification here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1_evaluation.backtest.backtest import DEFAULT_POLICIES, REQUIRED_POLICIES
from r1_evaluation.policies.registry import PUBLIC_POLICIES
from r1_operator.api.backtest.schema import backtest_crd, backtest_crd_yaml
from r1_operator.api.backtest.spec import BacktestSpec, Policy
from r1_operator.api.schema import crd, crd_yaml

FOLDER = Path(__file__).parents[3] / "crds"
DEFINITIONS = (crd(), backtest_crd())
ROOTS = [one["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for one in DEFINITIONS]
ROOT = ROOTS[0]
COLUMNS = [
    pytest.param(root, column, id=f"{one['spec']['names']['kind']}-{column['name']}")
    for one, root in zip(DEFINITIONS, ROOTS, strict=True)
    for column in one["spec"]["versions"][0]["additionalPrinterColumns"]
]
FREE_FORM = "spec.template.spec"
ENUMS_WITH_BRANDS = {"vLLM", "SGLang"}
POLICIES = "spec.policies[]"
"""Values that are policy names of `r1 leaderboard`."""

Node = tuple[str, dict[str, Any]]


def walk(schema: dict[str, Any], path: str) -> Iterator[Node]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


SPEC: list[Node] = [node for root in ROOTS for node in walk(root["properties"]["spec"], "spec")]
STATUS: list[Node] = [
    node for root in ROOTS for node in walk(root["properties"]["status"], "status")
]
ALL = SPEC + STATUS
FIELDS = [(path, node) for path, node in ALL if not path.endswith(("[]", "{}"))]


def offenders(nodes: list[Node], wrong: Any) -> list[str]:
    return [path for path, node in nodes if wrong(node)]


@pytest.mark.parametrize(("made", "text"), [(crd, crd_yaml), (backtest_crd, backtest_crd_yaml)])
def test_the_crd_file_matches_the_types(made: Any, text: Any) -> None:
    file = FOLDER / f"deepseek.ai_{made()['spec']['names']['plural']}.yaml"
    assert file.read_text() == text(), "run `make crds`"
    assert yaml.safe_load(file.read_text()) == made()


def test_everything_is_typed() -> None:
    untyped = offenders(
        ALL, lambda node: "type" not in node and not node.get("x-kubernetes-int-or-string")
    )
    assert not untyped


def test_no_floats_no_booleans_no_durations() -> None:
    assert not offenders(ALL, lambda node: node.get("type") in ("number", "boolean"))
    assert not offenders(SPEC, lambda node: node.get("format") in ("duration", "date-time"))


def test_durations_carry_their_unit() -> None:
    timed = [
        path
        for path, _ in SPEC
        if re.search(r"(window|period|delay|timeout)$", path, re.IGNORECASE)
    ]
    assert not timed


def test_strings_are_bounded() -> None:
    assert not offenders(ALL, lambda node: node.get("type") == "string" and "maxLength" not in node)


def test_quantities_are_bounded_and_checked() -> None:
    quantities = [node for _, node in SPEC if node.get("x-kubernetes-int-or-string")]
    assert quantities
    for node in quantities:
        assert node["maxLength"] <= 64
        assert node["x-kubernetes-validations"]


def test_lists_are_bounded_and_say_how_they_merge() -> None:
    lists = [(path, node) for path, node in ALL if node.get("type") == "array"]
    assert lists
    for path, node in lists:
        assert node.get("maxItems"), path
        kind = node.get("x-kubernetes-list-type")
        assert kind in ("map", "set", "atomic"), path
        if kind == "map":
            assert node["x-kubernetes-list-map-keys"], path


def test_maps_are_bounded_and_only_where_kubernetes_has_maps() -> None:
    maps = {path: node for path, node in ALL if isinstance(node.get("additionalProperties"), dict)}
    assert {path.rpartition(".")[2] for path in maps} == {
        *("limits", "requests", "labels", "annotations")
    }
    assert all(node.get("maxProperties") for node in maps.values())


def test_numbers_are_bounded_and_sized() -> None:
    for path, node in ALL:
        if node.get("type") == "integer":
            assert node.get("format") in ("int32", "int64"), path
            assert {"minimum", "maximum"} <= set(node), path
            assert abs(node["maximum"]) < 2**53, f"{path}: JSON readers would round it"


def test_enums_are_camel_case() -> None:
    values = {value for path, node in ALL if path != POLICIES for value in node.get("enum", ())}
    wrong = {value for value in values if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", value)}
    assert wrong == ENUMS_WITH_BRANDS - {"SGLang"}


def test_field_names_are_camel_case_and_short() -> None:
    for path, _ in FIELDS:
        name = path.rpartition(".")[2]
        assert re.fullmatch(r"[a-z][A-Za-z0-9]*", name), path
        assert not name.endswith(("Reference", "References")), path
    # Conditions instead; a phase only where an object runs once and ends, as a pod does.
    assert [path for path, _ in FIELDS if path.endswith(".phase")] == ["status.phase"]
    assert "phase" not in ROOT["properties"]["status"]["properties"]


def test_descriptions_start_with_the_name_and_end_as_sentences() -> None:
    for path, node in FIELDS:
        name = path.rpartition(".")[2]
        assert node.get("description", "").startswith(f"{name} "), path
        assert node["description"].endswith("."), path


def test_required_fields_have_no_default() -> None:
    for path, node in ALL:
        for name in node.get("required", ()):
            assert "default" not in node["properties"][name], f"{path}.{name}"


def test_only_the_pod_template_is_free_form() -> None:
    free = [path for path, node in ALL if node.get("x-kubernetes-preserve-unknown-fields")]
    assert free == [FREE_FORM]


def test_status_starts_with_conditions_as_a_map_by_type() -> None:
    for root in ROOTS:
        properties = root["properties"]["status"]["properties"]
        assert next(iter(properties)) == "conditions"
        conditions = properties["conditions"]
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]
        required = {"type", "status", "lastTransitionTime", "reason", "message"}
        assert set(conditions["items"]["required"]) == required
        assert "observedGeneration" in conditions["items"]["properties"]


def test_rules_have_clear_messages() -> None:
    rules = [
        rule
        for _, node in [*ALL, *(("", root) for root in ROOTS)]
        for rule in node.get("x-kubernetes-validations", ())
    ]
    assert len(rules) >= 15
    for rule in rules:
        assert rule["message"]
        assert "\n" not in rule["message"]
        assert len(rule["message"]) <= 2048


def test_subresources_names_and_columns() -> None:
    version = DEFINITIONS[0]["spec"]["versions"][0]
    assert version["subresources"] == {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    names = crd()["spec"]["names"]
    assert names["shortNames"] == ["r1"]
    assert "all" not in names.get("categories", [])
    columns = [(one["name"], one.get("priority", 0)) for one in version["additionalPrinterColumns"]]
    assert columns == [
        *(("Ready", 0), ("Desired", 0), ("Available", 0)),
        *(("Mode", 0), ("Reason", 1), ("Age", 0)),
    ]


def test_the_backtests_names_and_columns() -> None:
    version, names = DEFINITIONS[1]["spec"]["versions"][0], DEFINITIONS[1]["spec"]["names"]
    assert version["subresources"] == {"status": {}}
    assert (names["plural"], names["shortNames"]) == ("r1backtests", ["r1bt"])
    columns = [(one["name"], one.get("priority", 0)) for one in version["additionalPrinterColumns"]]
    assert columns == [
        *(("Phase", 0), ("Finding", 0), ("Inference", 0)),
        *(("Reason", 1), ("Age", 0)),
    ]


def test_backtest_policies_are_the_public_ones() -> None:
    assert {*Policy, *REQUIRED_POLICIES} == set(PUBLIC_POLICIES)
    board = BacktestSpec("any").policies
    assert [*REQUIRED_POLICIES, *board] == list(DEFAULT_POLICIES), (
        "the object's default is the command's"
    )


@pytest.mark.parametrize(("root", "column"), COLUMNS)
def test_printer_columns_reference_existing_fields(
    root: dict[str, Any], column: dict[str, Any]
) -> None:
    first, second = column["jsonPath"].split(".")[1:3]
    if first == "metadata":
        return
    assert second.partition("[")[0] in root["properties"][first]["properties"]


def test_one_version_is_stored() -> None:
    for definition in DEFINITIONS:
        versions = definition["spec"]["versions"]
        assert [(one["name"], one["served"], one["storage"]) for one in versions] == [
            ("v1", True, True)
        ]
