"""Values: unknown ones are rejected, and code, README and schema agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

VALUES = Path(__file__).resolve().parents[3] / "helm" / "r1-operator" / "values.yaml"
ROW = re.compile(r"^\| `([^`]+)` \| `(.+?)` \| (.+) \|$", re.MULTILINE)
COMPONENTS = ("operator", "gateway", "forecaster", "backtest")
# Values that are handed on whole; what is inside them is not the chart's.
WHOLE = ("resources", "labels", "template")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, default) of every value that a site may set."""
    whole = path.rpartition(".")[2] in WHOLE
    if isinstance(value, dict) and value and not whole:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


@pytest.fixture(scope="module")
def values(chart: Path) -> dict[str, Any]:
    return dict(leaves(yaml.safe_load((chart / "values.yaml").read_text())))


@pytest.fixture(scope="module")
def schema(chart: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((chart / "values.schema.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def templates(chart: Path) -> str:
    files = sorted((chart / "templates").rglob("*"))
    return "\n".join(path.read_text() for path in files if path.is_file())


REFUSED = [
    ("replicaCount=2", "additional properties 'replicaCount' not allowed"),
    ("operator.replicaCont=2", "additional properties 'replicaCont' not allowed"),
    ("gateway.image.tags=1", "additional properties 'tags' not allowed"),
    ("forecaster.resources.limit.memory=1Gi", "additional properties 'limit' not allowed"),
    ("networkPolicy.enable=true", "additional properties 'enable' not allowed"),
    ("crds.kept=false", "additional properties 'kept' not allowed"),
    ("gateway.replicas=0", "/gateway/replicas"),
    ("operator.replicas=two", "/operator/replicas"),
    ("gateway.drainSeconds=-1", "/gateway/drainSeconds"),
    ("operator.image.pullPolicy=Sometimes", "/operator/image/pullPolicy"),
    ("gateway.resources.requests.memory=lots", "/gateway/resources/requests/memory"),
    ("prometheus.url=prometheus:9090", "/prometheus/url"),
    ("prometheus.url=http://user:secret@prometheus:9090", "/prometheus/url"),
    ("prometheus.matchers.a-b=x", "additional properties 'a-b' not allowed"),
    ("prometheus.headers.Authorization=x", "/prometheus/headers/Authorization"),
    ("prometheus.auth.token=x", "additional properties 'token' not allowed"),
    ("prometheus.auth.caKey=a/b", "/prometheus/auth/caKey"),
    ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
    ("watchNamespaces=team-a", "/watchNamespaces"),
    ("gateway.publicService.port=70000", "/gateway/publicService/port"),
    ("gateway.publicService.type=Loadbalancer", "/gateway/publicService/type"),
    ("networkPolicy.prometheusPorts={}", "/networkPolicy/prometheusPorts"),
    ("serviceMonitor.interval=15", "/serviceMonitor/interval"),
    ("defaultModel.bundled=", "/defaultModel/bundled"),
    ("operator.extraEnv[0].value=x", "missing property 'name'"),
    ("operator.tolerations[0].operator=exists", "/operator/tolerations/0/operator"),
    ("namePrefix=Big", "/namePrefix"),
    ("backtest.resources.limits.memory=lots", "/backtest/resources/limits/memory"),
    ("imageRegistry=https://registry.example", "/imageRegistry"),
    ("modelPods.template.containers[0].name=engine", "properties 'containers' not allowed"),
    ("modelPods.template.metadata.name=x", "additional properties 'name' not allowed"),
    ("backtest.enabled=false", "additional properties 'enabled' not allowed"),
    ("forecaster.shards=0", "/forecaster/shards"),
    ("forecaster.keda.enable=true", "additional properties 'enable' not allowed"),
    ("forecaster.externalMetrics.enabled=maybe", "/forecaster/externalMetrics/enabled"),
    ("forecaster.externalMetrics.caBundle=-----BEGIN", "/forecaster/externalMetrics/caBundle"),
    ("forecaster.published[0].leadsSeconds=1", "additional properties 'leadsSeconds' not allowed"),
    ("forecaster.published[1].name=r1-forecast", "/forecaster/published/1/name"),
    ("forecaster.published[2].quantilePercent=0.9", "/forecaster/published/2/quantilePercent"),
    ("forecaster.published[3].activation=Never", "/forecaster/published/3/activation"),
]


@pytest.mark.parametrize("half", [0, 1])
def test_invalid_values_are_rejected_by_name(
    helm: Callable[..., Any], chart: Path, half: int
) -> None:
    # Helm reports everything that is wrong at once. Two halves, because some rows spoil the same value.
    given = REFUSED[half::2]
    settings = [argument for setting, _ in given for argument in ("--set", setting)]
    done = helm("template", "r1", str(chart), "--kube-version", "1.34.4", *settings)
    assert done.returncode != 0
    assert [row for row in given if row[1] not in done.stderr] == []


def test_the_chart_works_as_a_dependency(helm: Callable[..., Any], chart: Path) -> None:
    done = helm(
        "template",
        "r1",
        str(chart),
        "--kube-version",
        "1.34.4",
        "--set",
        "global.registry=any",
        "--set",
        "imageRegistry=registry.example",
    )
    assert done.returncode == 0, done.stderr


def objects(schema: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield path, schema
        for key, inner in schema.items():
            yield from objects(inner, f"{path}/{key}")


def test_every_schema_object_rejects_unknown_values(schema: dict[str, Any]) -> None:
    # A volume is one of thirty Kubernetes types: the API server checks what is in it.
    open_ones = [path for path, each in objects(schema) if each.get("additionalProperties", True)]
    assert open_ones == ["#/$defs/volumes/items"]


def test_schema_and_values_name_the_same_things(
    schema: dict[str, Any], values: dict[str, Any]
) -> None:
    def names(node: dict[str, Any], path: str) -> Iterator[str]:
        while "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        inner = node.get("properties")
        if inner is None or path.rpartition(".")[2] in ("resources", "affinity", "template"):
            yield path
            return
        for key, child in inner.items():
            yield from names(child, f"{path}.{key}" if path else key)

    assert set(names(schema, "")) - {"global"} == set(values)


def marked(path: str, default: Any, mark: int) -> Any:
    """Return a recognizable value with the shape of the default."""
    if isinstance(default, int):
        return mark
    if isinstance(default, dict):
        return {"mark": f"mark-{mark}"}
    if isinstance(default, list):
        name = path.rpartition(".")[2]
        plain = {"watchNamespaces": f"mark-{mark}", "apiServerPorts": mark, "prometheusPorts": mark}
        return [plain.get(name, {"name": f"mark-{mark}"})]
    return f"mark-{mark}"


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def test_every_value_affects_the_manifests(
    helm: Callable[..., Any], chart: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    marks = {
        path: 20_000 + number
        for number, (path, default) in enumerate(values.items())
        if not isinstance(default, bool)
    }
    given = {path: marked(path, values[path], mark) for path, mark in marks.items()}
    switches = {path: True for path, default in values.items() if isinstance(default, bool)}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(nested(given | switches)))
    done = helm(
        *("template", "r1", str(chart), "--kube-version", "1.34.4", "--values", str(file)),
        "--skip-schema-validation",
    )
    assert done.returncode == 0, done.stderr
    assert [path for path, mark in marks.items() if str(mark) not in done.stdout] == []


@pytest.mark.parametrize(
    "switch",
    [
        path
        for path, default in leaves(yaml.safe_load(VALUES.read_text()))
        if isinstance(default, bool)
    ],
)
def test_every_boolean_value_has_an_effect(
    render: Callable[..., list[dict[str, Any]]], values: dict[str, Any], switch: str
) -> None:
    apis = ("monitoring.coreos.com/v1",)
    switched = f"{switch}={json.dumps(not values[switch])}"
    assert render(apis=apis) != render(switched, apis=apis)


def test_every_used_value_exists(values: dict[str, Any], templates: str) -> None:
    nodes = {path[: dot.start()] for path in values for dot in re.finditer(r"\.", path)}
    nodes |= set(values)
    used = set(re.findall(r"\.Values\.([A-Za-z][A-Za-z.]*)", templates))
    # What the components share is read from one component's values.
    shared = set(re.findall(r"\.values\.([A-Za-z][A-Za-z.]*)", templates))
    used |= {f"{component}.{path}" for path in shared for component in COMPONENTS}
    assert used - nodes == set()


def rows(readme: str) -> Iterator[tuple[str, str, str]]:
    for name, default, meaning in ROW.findall(readme):
        for component in COMPONENTS if "COMPONENT" in name + default else [""]:
            yield (
                name.replace("COMPONENT", component),
                default.replace("COMPONENT", component),
                meaning,
            )


def test_the_readme_lists_every_value_with_its_default(chart: Path, values: dict[str, Any]) -> None:
    listed = list(rows((chart / "README.md").read_text()))
    documented = {name: json.loads(default) for name, default, _ in listed}
    assert len(documented) == len(listed), "a value is listed twice"
    assert documented == values


UNSET = (
    "imagePullSecrets",
    "watchNamespaces",
    "modelPods",
    "modelPods.template",
    "prometheus.matchers",
    "prometheus.headers",
    "prometheus.auth",
    "prometheus.auth.headerKeys",
    "operator.accelerators",
    "operator.podAnnotations",
    "gateway.extraEnv",
    "networkPolicy.apiServerPorts",
    "networkPolicy.prometheusPorts",
    "serviceMonitor.labels",
    "dashboards.annotations",
)


@pytest.mark.parametrize("value", UNSET)
def test_an_absent_value_counts_as_empty(
    value: str, render: Callable[..., list[dict[str, Any]]]
) -> None:
    """`--reuse-values` keeps the values of an older chart, and a site may set null."""
    settings = ("serviceMonitor.enabled=true", "forecaster.shards=2")
    for manifest in render(*settings, f"{value}=null"):
        for container in _containers(manifest):
            for one in container.get("env") or ():
                assert "valueFrom" in one or one["value"] not in (None, "null"), one


def _containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    spec = manifest.get("spec") or {}
    containers: list[dict[str, Any]] = (
        spec.get("template", {}).get("spec", {}).get("containers", [])
    )
    return containers
