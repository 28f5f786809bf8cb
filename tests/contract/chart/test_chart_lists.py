"""Lists of the site are merged by key: server-side apply rejects duplicate keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
WORKLOADS = ("Deployment", "StatefulSet")
COMPONENTS = ("operator", "gateway", "forecaster")

KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "ports": ("name", "port", "containerPort", "protocol"),
    "tolerations": ("key", "operator", "value", "effect", "tolerationSeconds"),
    "items": ("path",),
}
"""Key fields of each list whose items have an identity. A test checks completeness."""

NO_KEY = {"endpoints", "ingress", "egress", "from", "to", "rules", "groups", "subjects"}
"""Atomic lists, and lists of other objects; `preferredDuring...` and expressions come from values."""


class OnceLoader(yaml.CSafeLoader):
    """Rejects duplicate map keys, which YAML loaders ignore."""


def _once(loader: OnceLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    repeated = [key for key, count in Counter(keys).items() if count > 1]
    assert not repeated, f"{repeated} twice in one map, line {node.start_mark.line}"
    return loader.construct_mapping(node, deep=True)


OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)

REPEATS: Manifest = {
    "imagePullSecrets": [{"name": "registry"}, {"name": "second"}, {"name": "registry"}],
    "networkPolicy": {"apiServerPorts": [443, 6443, 443], "prometheusPorts": [9090, 9090]},
    "serviceMonitor": {
        "enabled": True,
        "labels": {"app.kubernetes.io/part-of": "monitoring", "release": "prometheus"},
    },
    "alerts": {"enabled": True, "labels": {"app.kubernetes.io/part-of": "monitoring"}},
    "dashboards": {"labels": {"app.kubernetes.io/part-of": "grafana", "grafana_dashboard": "2"}},
    "gateway": {"apiKeysSecret": {"name": "clients"}, "publicService": {"enabled": True}},
    "forecaster": {
        "shards": 2,
        "keda": {"enabled": True},
        "externalMetrics": {"enabled": True, "tlsSecret": "tls", "caBundle": "UEVN"},
    },
}
REPEATED_LISTS: Manifest = {
    "podAnnotations": {"prometheus.io/scrape": "false", "note": "kept"},
    "tolerations": [{"key": "a", "operator": "Exists"}] * 2,
    "extraEnv": [
        {"name": "HOME", "value": "/home"},
        {"name": "NEW", "value": "1"},
        {"name": "R1_OWN_NAMESPACE", "value": "mine"},
        {"name": "R1_GATEWAY_LOG_LEVEL", "value": "debug"},
        {"name": "R1_FORECASTER_SHARD", "value": "mine"},
        {"name": "NEW", "value": "2"},
    ],
    "extraVolumes": [
        {"name": "tmp", "emptyDir": {"sizeLimit": "9Gi"}},
        {"name": "api-keys", "emptyDir": {}},
        {"name": "shards", "emptyDir": {}},
        {"name": "more", "emptyDir": {}},
        {"name": "more", "emptyDir": {"medium": "Memory"}},
    ],
    "extraVolumeMounts": [
        {"name": "more", "mountPath": "/more"},
        {"name": "more", "mountPath": "/tmp"},
        {"name": "tmp", "mountPath": "/more"},
    ],
}


@pytest.fixture(scope="module")
def repeated(
    helm: Callable[..., Any], chart: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Manifest]:
    """The chart with values that repeat its own names and each other's names."""
    values = REPEATS | {"imageRegistry": "registry.example"}
    for component in (*COMPONENTS, "backtest"):
        values[component] = values.get(component, {}) | REPEATED_LISTS
    file = tmp_path_factory.mktemp("values") / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = helm(
        *("template", "r1", str(chart), "-n", "r1-system", "--kube-version", "1.34.4"),
        *("--values", str(file)),
    )
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, Loader=OnceLoader) if each]


def keyed_lists(value: Any, path: str = "", field: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Path and keys of every object list whose items have an identity."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from keyed_lists(inner, f"{path}.{name}", name)
    elif isinstance(value, list):
        if field in KEYS and all(isinstance(item, dict) for item in value):
            yield path, [tuple(item.get(key) for key in KEYS[field]) for item in value]
        for index, inner in enumerate(value):
            yield from keyed_lists(inner, f"{path}[{index}]")


def test_default_manifests_have_no_duplicate_list_keys(repeated: list[Manifest]) -> None:
    checked_lists = 0
    for manifest in repeated:
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        for path, keys in keyed_lists(manifest):
            checked_lists += 1
            assert len(keys) == len(set(keys)), (manifest["kind"], path, keys)
    assert checked_lists > 40


def test_manifests_have_no_duplicate_list_keys_with_any_values(
    distinct_manifests: list[Manifest],
) -> None:
    for manifest in distinct_manifests:
        if manifest["kind"] != "CustomResourceDefinition":
            for path, keys in keyed_lists(manifest):
                assert len(keys) == len(set(keys)), (manifest["kind"], path, keys)


def pod(manifests: list[Manifest], component: str) -> tuple[Manifest, Manifest]:
    (workload,) = [
        each
        for each in manifests
        if each["kind"] in WORKLOADS
        and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    template = workload["spec"]["template"]
    return template, template["spec"]["containers"][0]


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_site_s_entry_replaces_the_chart_s(repeated: list[Manifest], component: str) -> None:
    template, container = pod(repeated, component)
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert (env["HOME"], env["NEW"]) == ("/home", "2")
    assert container["env"][0]["name"] == "HOME"  # in its place: later ones may refer to it
    volumes = {each["name"]: each for each in template["spec"]["volumes"]}
    assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "9Gi"}
    assert volumes["more"]["emptyDir"] == {"medium": "Memory"}
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert (mounts["/tmp"], mounts["/more"]) == ("more", "tmp")
    annotations = template["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "false"
    assert annotations["note"] == "kept"
    assert [each["name"] for each in template["spec"]["imagePullSecrets"]] == ["registry", "second"]


def test_labels_of_the_site_replace_those_of_the_chart(repeated: list[Manifest]) -> None:
    for kind, part in (("ServiceMonitor", "monitoring"), ("PrometheusRule", "monitoring")):
        for each in repeated:
            if each["kind"] == kind:
                assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == part
    dashboards = [each for each in repeated if "-dashboard-" in each["metadata"]["name"]]
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in dashboards} == {"2"}


def test_every_object_list_has_a_merge_key(distinct_manifests: list[Manifest]) -> None:
    def lists(value: Any, field: str = "") -> Iterator[str]:
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from lists(inner, name)
        elif isinstance(value, list):
            if any(isinstance(item, dict) for item in value):
                yield field
            for inner in value:
                yield from lists(inner)

    kinds = ("CustomResourceDefinition", "PrometheusRule")
    fields = {
        field for each in distinct_manifests if each["kind"] not in kinds for field in lists(each)
    }
    affinity = {"preferredDuringSchedulingIgnoredDuringExecution", "matchExpressions"}
    assert fields - KEYS.keys() - NO_KEY - affinity == set()
