"""The ConfigMap `NAME-route`, from which the gateways read a resource (`route.json`).

Every field of all three classes is written, so that a gateway needs no defaults of its own. The text
is canonical JSON: equal specs give equal bytes.
"""

import json
from typing import Any

from r1_common.contracts.priority_classes import ClassPolicy, PriorityClass
from r1_common.contracts.route import RouteSpec, to_document
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
"""Interactive, normal and batch requests: values of the fields that a resource leaves out."""


def served_names(resource: R1Inference) -> tuple[str, ...]:
    """Return the resource's name and its aliases, each once."""
    return tuple(dict.fromkeys((resource.name, *resource.spec.model.aliases)))


def route(resource: R1Inference) -> RouteSpec:
    """The content of `route.json`."""
    spec = resource.spec
    own = {one.name: one for one in spec.priority.classes}
    return RouteSpec(
        namespace=resource.namespace,
        name=resource.name,
        models=served_names(resource),
        seats_per_replica=spec.runtime.max_concurrent_sequences,
        default_class=PriorityClass[spec.priority.default_class.value],
        policies=tuple(
            _policy(default, own.get(default.name, default)) for default in CLASS_DEFAULTS
        ),
        may_wake=spec.autoscaling is not None and spec.autoscaling.min_replicas == 0,
    )


def slo_targets_of(resource: R1Inference) -> dict[ClassName, float]:
    """SLO targets of the time to first token in seconds by class, as in `route.json`."""
    policies = route(resource).policies
    return {
        name: policies[PriorityClass[name.value]].time_to_first_token_seconds or 0.0
        for name in ClassName
    }


def build_route(resource: R1Inference) -> dict[str, Any]:
    """Return the ConfigMap `NAME-route`."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(
            resource, f"{resource.name}-route", extra_labels={Label.ROUTE.value: "true"}
        ),
        "data": {names.ROUTE_KEY: json.dumps(to_document(route(resource)), separators=(",", ":"))},
    }


def _policy(default: PriorityClassSpec, own: PriorityClassSpec) -> ClassPolicy:
    def value(field: str) -> int:
        given = getattr(own, field)
        return int(getattr(default, field) if given is None else given)

    return ClassPolicy(
        max_queue_length=value("max_queue_length"),
        max_queue_seconds=value("max_queue_seconds"),
        age_after_seconds=value("age_after_seconds"),
        time_to_first_token_seconds=value("time_to_first_token_milliseconds") / 1000,
    )
