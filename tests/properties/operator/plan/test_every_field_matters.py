"""Every field of the API has an effect: a change of it changes a child or an input of the plan.

The fields come from the types, so a new field without effect fails here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_args, get_origin

import pytest

from r1_common.kube.quantity import Quantity
from r1_operator.api.fields.declare import Member, members
from r1_operator.api.serving import BUNDLED_ONLY
from r1_operator.api.v1 import R1Inference, Spec, parse
from r1_operator.kube.kinds import Key
from r1_operator.plan.scaling.forecast_rules.forecast_approval import target_of
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.scaling.policy import policy_of
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload import plan_children
from r1_operator.sources.forecast import build_forecast_query, forecast_metric

DEFAULTS = Defaults(runtime_image="registry.example/runtime:1")
RICH: dict[str, Any] = {
    "replicas": 2,
    "model": {
        "aliases": ["chat"],
        "source": {"persistentVolumeClaim": {"claimName": "weights", "subPath": "r1"}},
    },
    "engine": {"type": "Bundled", "image": "engine:1", "args": ["--seed=1"]},
    "runtime": {
        "dtype": "BFloat16",
        "maxModelLength": 4096,
        "maxConcurrentSequences": 16,
        "kvCacheBlocks": 512,
        "quantization": {"weights": "Int4"},
        "cache": {"dtype": "Float32", "prefixCaching": "Disabled"},
        "speculation": {"type": "NGram", "maxDrafts": 2},
    },
    "resources": {"limits": {"memory": 8, "nvidia.com/gpu": 1}, "requests": {"cpu": "2"}},
    "priority": {
        "defaultClass": "Q2",
        "classes": [
            {
                "name": "Q1",
                "maxQueueLength": 10,
                "maxQueueSeconds": 20,
                "ageAfterSeconds": 3,
                "timeToFirstTokenMilliseconds": 400,
            }
        ],
    },
    "autoscaling": {
        "minReplicas": 0,
        "maxReplicas": 9,
        "targetUtilizationPercent": 80,
        "metrics": [
            {
                "type": "TimeToFirstToken",
                "name": "urgent",
                "target": 800,
                "priorityClass": "Q1",
                "percentile": 90,
                "stepPercent": 150,
            },
            {"type": "RequestsPerSecond", "target": 8},
        ],
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": 5,
                "policies": [{"type": "Pods", "value": 2, "periodSeconds": 10}],
            },
            "scaleDown": {
                "policy": "Threshold",
                "thresholdPercent": 50,
                "stabilizationWindowSeconds": 60,
                "policies": [{"type": "Pods", "value": 2, "periodSeconds": 10}],
            },
        },
        "forecast": {
            "activation": "RequireBacktest",
            "backtestName": "november",
            "horizonSeconds": 300,
            "quantilePercent": 80,
            "stepSeconds": 10,
            "seasonSeconds": 3600,
            "historySeconds": 86400,
        },
        "budget": {
            "gpus": 40,
            "cost": {"limitPerHour": 30, "pricePerGpuHour": 2},
            "power": {"limitWatts": 9000, "wattsPerReplica": 700},
        },
        "capacity": {"policy": "Bindable", "pendingReplicas": 2},
    },
    "rollout": {
        "maxSurge": 1,
        "maxUnavailable": 1,
        "progressDeadlineSeconds": 900,
        "drainSeconds": 30,
    },
    "template": {
        "metadata": {"labels": {"team": "search"}, "annotations": {"note": "yes"}},
        "spec": {"nodeSelector": {"gpu": "h100"}},
    },
}
Path = tuple[str | int, ...]

WHOLE: dict[Path, Any] = {
    ("autoscaling", "forecast", "activation"): {
        key: value
        for key, value in RICH["autoscaling"]["forecast"].items()
        if key != "backtestName"
    }
    | {"activation": "Always"},
    ("model", "source", "bundled"): {"bundled": "other"},
    ("model", "source", "path"): {"path": "/weights"},
    ("autoscaling", "budget", "cost", "pricePerReplicaHour"): {
        "limitPerHour": 30,
        "pricePerReplicaHour": 2,
    },
    ("autoscaling", "metrics", 0, "type"): {"type": "MeanLatency", "target": 800},
    ("autoscaling", "metrics", 0, "query"): {"type": "External", "target": 800, "query": "up"},
}
"""Alternatives of a union, and what excludes a neighbour: setting one replaces the object around."""


def fields_of(cls: type, path: Path = ()) -> Iterator[tuple[Path, Member]]:
    for member in members(cls):
        here = (*path, member.json)
        inner = member.type
        if get_origin(inner) is tuple:
            inner, here = get_args(inner)[0], (*here, 0)
        if hasattr(inner, "__dataclass_fields__") and inner is not Quantity:
            yield from fields_of(inner, here)
        else:
            yield (*path, member.json), member


FIELDS = list(fields_of(Spec))


def another(member: Member, value: Any) -> Any:
    """A different value that is valid too."""
    kind = member.type
    if get_origin(kind) is tuple:
        return [*value, "more"]
    if get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
        first = next(iter(value))
        return {**value, first: 2 if get_args(kind)[1] is Quantity else {"other": "x"}} | (
            {first: "other"} if get_args(kind)[1] is str else {}
        )
    if kind is int:
        return value + 1
    if kind is Quantity:
        return value + 1
    if issubclass(kind, Enum):
        return next(item.value for item in kind if item.value != value)
    return f"{value}x"


def resource(spec: dict[str, Any]) -> R1Inference:
    manifest = {
        "apiVersion": "deepseek.ai/v1",
        "kind": "R1Inference",
        "metadata": {"name": "r1", "uid": "u"},
        "spec": spec,
    }
    return parse(manifest, strict=True)


def effects(spec: dict[str, Any]) -> dict[str, Any]:
    """All outputs of a spec: children, count, scaling policy, forecast request, backtest target."""
    parsed = resource(spec)
    autoscaling = parsed.spec.autoscaling
    assert autoscaling is not None
    policy = policy_of(autoscaling, ceilings_of(parsed.spec))
    metric = forecast_metric(policy.metrics)
    question = None
    if metric is not None:
        question = build_forecast_query(Key("team", "r1"), autoscaling.forecast, metric, 30.0, 10)
    return {
        "children": plan_children(parsed, DEFAULTS, 2),
        "replicas": parsed.spec.replicas,
        "policy": policy,
        "question": question,
        "backtest": target_of(parsed),
    }


@pytest.mark.parametrize(
    ("path", "member"), FIELDS, ids=[".".join(map(str, path)) for path, _ in FIELDS]
)
def test_a_changed_field_changes_what_leaves(path: Path, member: Member) -> None:
    spec = copy.deepcopy(RICH)
    place: Any = spec
    *around, outer = path[:-1] or path
    if path in WHOLE:
        for part in around:
            place = place[part]
        place[outer] = WHOLE[path]
    else:
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = another(member, place[path[-1]])
    if path == ("engine", "type"):
        for name in BUNDLED_ONLY:  # excluded by another engine
            del spec["runtime"][name]
    assert effects(spec) != effects(RICH)


def test_the_rich_spec_has_every_field() -> None:
    for path, _ in FIELDS:
        place: Any = RICH
        if path not in WHOLE:
            for part in path:
                place = place[part]
    assert len(FIELDS) > 40
