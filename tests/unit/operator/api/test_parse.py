"""Parsing of manifests: defaults, and an error for every invalid field."""

from __future__ import annotations

from typing import Any

import pytest

from r1_operator.api.fields.declare import to_json
from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.names import ScalingMode
from r1_operator.api.scaling import Activation, ClassName, DownPolicy, MetricType
from r1_operator.api.serving import Dtype, EngineType
from r1_operator.api.v1 import parse
from r1_operator.plan.scaling.reasons import DecisionMode

VERBATIM: dict[str, Any] = {
    "apiVersion": "deepseek.ai/v1",
    "kind": "R1Inference",
    "metadata": {"name": "production-r1"},
    "spec": {
        "replicas": 4,
        "resources": {
            "limits": {"nvidia.com/gpu": 1},
            "requests": {"cpu": "2", "memory": "8Gi"},
        },
        "autoscaling": {
            "minReplicas": 2,
            "maxReplicas": 10,
            "metrics": [{"type": "RequestsPerSecond", "target": 1000}],
        },
    },
}


def manifest(**spec: Any) -> dict[str, Any]:
    return {**VERBATIM, "spec": spec}


def test_the_documented_manifest_has_every_default() -> None:
    resource = parse(VERBATIM, strict=True)
    spec = resource.spec
    assert resource.key == "default/production-r1"
    assert spec.replicas == 4
    assert spec.model.source is None
    assert spec.engine.type is EngineType.BUNDLED
    assert spec.runtime.dtype is Dtype.AUTO
    assert spec.priority.default_class is ClassName.Q2
    assert spec.autoscaling is not None
    assert spec.autoscaling.metrics[0].type is MetricType.REQUESTS_PER_SECOND
    assert spec.autoscaling.metrics[0].target.value == 1000
    assert spec.autoscaling.target_utilization_percent == 70
    assert spec.autoscaling.behavior.scale_down.policy is DownPolicy.STABILIZED
    assert spec.autoscaling.forecast.activation is Activation.REQUIRE_BACKTEST
    assert spec.rollout.drain_seconds == 120


def test_an_empty_spec_takes_all_defaults() -> None:
    assert parse(manifest()).spec.replicas == 1
    assert parse(manifest()).spec.autoscaling is None


def test_parsing_serialized_objects_is_idempotent() -> None:
    resource = parse(VERBATIM)
    again = parse({**VERBATIM, "spec": to_json(resource.spec)}, strict=True)
    assert again == resource


def test_metadata_is_parsed() -> None:
    document = {
        **VERBATIM,
        "metadata": {
            "name": "r1",
            "namespace": "team",
            "uid": "u",
            "generation": 7,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "deletionTimestamp": "2026-01-02T03:04:06Z",
            "annotations": {"a": "b"},
        },
        "status": {"desiredReplicas": 3},
    }
    resource = parse(document)
    assert (resource.key, resource.uid, resource.generation) == ("team/r1", "u", 7)
    assert resource.deleted_at == resource.created_at + 1
    assert resource.status["desiredReplicas"] == 3


def test_all_errors_are_reported_together() -> None:
    spec = {"replicas": -1, "engine": {"type": "vLLM"}, "rollout": {"drainSeconds": "2m"}}
    with pytest.raises(Invalid) as refusal:
        parse(manifest(**spec))
    assert [error.path for error in refusal.value.errors] == [
        "spec.replicas",
        "spec.engine.image",
        "spec.rollout.drainSeconds",
    ]


def test_unknown_fields_are_rejected_only_when_strict() -> None:
    odd = manifest(fromTheFuture={"x": 1})
    assert parse(odd).spec == parse(manifest()).spec
    with pytest.raises(Invalid, match=r"spec\.fromTheFuture: unknown field"):
        parse(odd, strict=True)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"kind": "Deployment"}, "kind: must be R1Inference, not 'Deployment'"),
        ({"metadata": None}, "metadata: is required"),
        ({"metadata": {}}, "metadata.name: the name must start with"),
        ({"spec": None}, "spec: must be an object, not null"),
        ({"spec": []}, "spec: must be an object, not a list"),
    ],
)
def test_an_object_of_another_shape_is_rejected(broken: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse({**VERBATIM, **broken})
    assert says in str(refusal.value)


def test_null_means_absent_as_on_the_api_server() -> None:
    assert parse(manifest(autoscaling=None, replicas=None)).spec == parse(manifest()).spec


def test_status_modes_equal_decision_modes() -> None:
    assert [mode.value for mode in ScalingMode] == [mode.value for mode in DecisionMode]
