"""ConfigMap with the gateways' route to a resource (`route.json`).

The contract is in ARCHITECTURE.md: all three classes with every field, so that a gateway needs no
defaults. The text is canonical JSON: equal specs give equal bytes.
"""

import json
from typing import Any

from r1_operator.api import names
from r1_operator.api.names import Label
from r1_operator.api.scaling import ClassName, PriorityClassSpec
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.workload.metadata import child_metadata

CLASS_DEFAULTS = (
    PriorityClassSpec(ClassName.Q1, 256, 30, 5, 500),
    PriorityClassSpec(ClassName.Q2, 512, 120, 30, 2_000),
    PriorityClassSpec(ClassName.Q3, 1024, 900, 120, 30_000),
)
"""Defaults of interactive, normal and batch work."""


def served_names(resource: R1Inference) -> tuple[str, ...]:
    """Return the resource's name and its aliases, each once."""
    return tuple(dict.fromkeys((resource.name, *resource.spec.model.aliases)))


def route(resource: R1Inference) -> dict[str, Any]:
    """Return the content of `route.json`."""
    spec = resource.spec
    own = {one.name: one for one in spec.priority.classes}
    return {
        "namespace": resource.namespace,
        "name": resource.name,
        "models": list(served_names(resource)),
        "defaultClass": spec.priority.default_class.value,
        "classes": {
            default.name.value: _class(default, own.get(default.name)) for default in CLASS_DEFAULTS
        },
        "seatsPerReplica": spec.runtime.max_concurrent_sequences,
        "port": names.PORT,
        "mayWake": spec.autoscaling is not None and spec.autoscaling.min_replicas == 0,
        "drainSeconds": spec.rollout.drain_seconds,
    }


def slo_targets_of(resource: R1Inference) -> dict[ClassName, float]:
    """Return the SLO targets (time to first token, seconds) by class, as in `route.json`."""
    classes = route(resource)["classes"]
    return {name: classes[name.value]["timeToFirstTokenMilliseconds"] / 1000 for name in ClassName}


def build_route(resource: R1Inference) -> dict[str, Any]:
    """Return the ConfigMap `NAME-route`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(
            resource, f"{resource.name}-route", extra_labels={Label.ROUTE.value: "true"}
        ),
        "data": {names.ROUTE_KEY: json.dumps(route(resource), separators=(",", ":"))},
    }


def _class(default: PriorityClassSpec, own: PriorityClassSpec | None) -> dict[str, Any]:
    return {
        json_name: getattr(default, name)
        if own is None or getattr(own, name) is None
        else getattr(own, name)
        for name, json_name in (
            ("max_queue_length", "maxQueueLength"),
            ("max_queue_seconds", "maxQueueSeconds"),
            ("age_after_seconds", "ageAfterSeconds"),
            ("time_to_first_token_milliseconds", "timeToFirstTokenMilliseconds"),
        )
    }
