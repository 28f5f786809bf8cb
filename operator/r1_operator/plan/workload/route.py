"""The ConfigMap `NAME-route`, from which the gateways read a resource (`route.json`).

Every field of all three classes is written, so that a gateway needs no defaults of its own. The text
is canonical JSON: equal specs give equal bytes.
"""

import json
from typing import Any

from r1_common.contracts.priority_classes import PriorityClass
from r1_common.contracts.route import RouteSpec, to_document
from r1_operator.api import names
from r1_operator.api.names import Label
from r1_operator.api.v1 import R1Inference
from r1_operator.plan.workload.metadata import child_metadata


def served_names(resource: R1Inference) -> tuple[str, ...]:
    """Return the resource's name and its aliases, each once."""
    return tuple(dict.fromkeys((resource.name, *resource.spec.model.aliases)))


def route(resource: R1Inference) -> RouteSpec:
    """The content of `route.json`."""
    spec = resource.spec
    return RouteSpec(
        namespace=resource.namespace,
        name=resource.name,
        models=served_names(resource),
        seats_per_replica=spec.runtime.max_concurrent_sequences,
        default_class=PriorityClass[spec.priority.default_class.value],
        policies=resource.class_policies,
        may_wake=spec.autoscaling is not None and spec.autoscaling.min_replicas == 0,
    )


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
