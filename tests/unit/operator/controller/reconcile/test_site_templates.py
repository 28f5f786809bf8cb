"""The site's pod templates are checked before the operator starts, and errors name the field."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1_operator.controller.reconcile.site_templates import check_site_templates
from r1_operator.kube.pod_schema import wrong_fields
from r1_operator.settings import BadSetting, OperatorSettings

LAYOUT = Path(__file__).parents[2] / "plan" / "workload" / "layouts" / "1.json"
PODS: list[dict[str, Any]] = [pod["spec"] for pod in json.loads(LAYOUT.read_text()).values()]
MODEL, BACKTEST = "R1_MODEL_POD_TEMPLATE", "R1_BACKTEST_TEMPLATE"
OPEN = ("nodeSelector", "matchLabels", "limits", "requests")  # their keys are the owner's


def engine(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


def load(template: Any, name: str = MODEL) -> None:
    check_site_templates(OperatorSettings.load(environment={name: json.dumps(template)}))


GOOD: list[Any] = [
    {},
    {
        "metadata": {
            "labels": {"team": "search"},
            "annotations": {"sidecar.istio.io/inject": "false"},
        }
    },
    {"spec": {"imagePullSecrets": [{"name": "registry"}]}},
    {"spec": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]}},
    {"spec": {"securityContext": None, "runtimeClassName": "nvidia", "priority": 5}},
    {"spec": {"volumes": [{"name": "ca", "configMap": {"name": "ca", "defaultMode": 292}}]}},
    {"spec": {"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": 1}}]}},
    engine(env=[{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "t", "key": "k"}}}]),
    engine(
        resources={"limits": {"cpu": 1, "memory": "1Gi"}}, readinessProbe={"httpGet": {"port": 1}}
    ),
    {"spec": {"containers": [{"name": "proxy", "image": "envoy:1"}]}},
    {"spec": {"initContainers": [{"name": "warm", "image": "busybox", "restartPolicy": "Always"}]}},
]


@pytest.mark.parametrize("template", GOOD)
def test_a_template_with_known_fields_is_accepted(template: Any) -> None:
    load(template)


BAD: list[tuple[Any, str]] = [
    ([], "must be a pod template as a JSON object"),
    ({"spc": {}}, "spc: unknown field"),
    ({"spec": []}, "spec: must be an object"),
    ({"metadata": {"name": "x"}}, "metadata.name: unknown field"),
    ({"metadata": {"labels": {"deepseek.ai/x": "1"}}}, "labels must not start with deepseek.ai/"),
    ({"metadata": {"labels": {"a": 1}}}, "metadata.labels.a: must be a string"),
    (engine(imagePullPolcy="Always"), "spec.containers[engine].imagePullPolcy: unknown field"),
    (
        {"spec": {"terminationGracePeriodSeconds": "30"}},
        "spec.terminationGracePeriodSeconds: must be an integer",
    ),
    ({"spec": {"hostNetwork": "true"}}, "spec.hostNetwork: must be true or false"),
    ({"spec": {"tolerations": {"key": "a"}}}, "spec.tolerations: must be a list"),
    ({"spec": {"nodeSelector": {"gpu": True}}}, "spec.nodeSelector.gpu: must be a string"),
    (
        engine(env=[{"name": "A", "value": 1}]),
        "spec.containers[engine].env[A].value: must be a string",
    ),
    (engine(env=[{"value": "1"}]), "spec.containers[engine].env: each item needs name"),
    (
        {"spec": {"containers": [{"name": "runtime", "env": []}]}},
        "spec.containers[runtime]: has no image, and the pod of the operator has only the container",
    ),
    ({"spec": {"containers": [{"image": "x"}]}}, "spec.containers: each item needs name"),
    ({"spec": {"$patch": "replace"}}, "spec.$patch"),
]


@pytest.mark.parametrize("name", [MODEL, BACKTEST])
@pytest.mark.parametrize(("template", "words"), BAD)
def test_an_invalid_template_is_rejected_with_the_field_name(
    template: Any, words: str, name: str
) -> None:
    if name == BACKTEST:
        template = json.loads(json.dumps(template).replace('"engine"', '"backtest"'))
        words = words.replace("[engine]", "[backtest]")
    with pytest.raises(BadSetting) as error:
        load(template, name)
    assert str(error.value).startswith(name)
    assert words in str(error.value)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields that the API declares."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*at, key)
            if key not in OPEN:
                yield from paths(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*at, index))


def test_operator_pods_pass_the_field_check() -> None:
    for pod in PODS:
        assert wrong_fields(pod, "spec") == []


@given(st.sampled_from([(pod, path) for pod in PODS for path in paths(pod)]), st.text(min_size=1))
def test_an_unknown_field_is_named_at_any_depth(
    place: tuple[dict[str, Any], tuple[Any, ...]], extra: str
) -> None:
    pod, path = copy.deepcopy(place[0]), place[1]
    node: Any = pod
    for step in path[:-1]:
        node = node[step]
    node[f"{path[-1]}{extra}x"] = node.pop(path[-1])
    (wrong,) = wrong_fields(pod, "spec")
    assert wrong.endswith(f".{path[-1]}{extra}x: unknown field")


def test_the_operator_exits_with_an_invalid_site_template() -> None:
    environment = os.environ | {MODEL: json.dumps(engine(imagePullPolcy="Always"))}
    done = subprocess.run(
        [sys.executable, "-m", "r1_operator", "run", "--dev", "--http-port", "0"],
        env=environment | {"KUBECONFIG": "/does/not/exist"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "r1-operator: R1_MODEL_POD_TEMPLATE: spec.containers[engine].imagePullPolcy: unknown field"
    )
