"""Priority classes are resolved once; the route and the scaling loop read the result."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from r1_operator.api.class_policies import slo_targets
from r1_operator.api.scaling import ClassName, Priority
from r1_operator.api.v1 import parse
from r1_operator.controller.scaling.scaled_resource import scaling_config
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.workload.route import build_route, route

SPEC: dict[str, Any] = {
    "priority": {
        "classes": [
            {"name": "Q2", "timeToFirstTokenMilliseconds": 1500},
            {"name": "Q1", "maxQueueSeconds": 7},
        ]
    },
    "autoscaling": {"maxReplicas": 4, "metrics": [{"type": "Concurrency", "target": 4}]},
}


def resource_of(spec: dict[str, Any]) -> Any:
    metadata = {"name": "r1", "namespace": "team", "generation": 1}
    return parse(
        {"apiVersion": "deepseek.ai/v1", "kind": "R1Inference", "metadata": metadata, "spec": spec}
    )


def test_absent_fields_of_a_class_take_the_default_of_that_class() -> None:
    q1, q2, q3 = resource_of(SPEC).class_policies
    assert (q1.max_queue_seconds, q1.time_to_first_token_seconds) == (7, 0.5)
    assert (q2.max_queue_length, q2.time_to_first_token_seconds) == (512, 1.5)
    assert (q3.age_after_seconds, q3.time_to_first_token_seconds) == (120, 30.0)


def test_the_route_and_the_scaling_loop_have_the_same_slo_targets() -> None:
    resource = resource_of(SPEC)
    config = scaling_config(resource, ceilings_of)
    document = json.loads(build_route(resource)["data"]["route.json"])
    assert config is not None
    assert route(resource).policies is resource.class_policies, "the route resolves nothing itself"
    assert {
        name: document["classes"][name.value]["timeToFirstTokenMilliseconds"] / 1000
        for name in ClassName
    } == config.slo_targets


def test_a_replaced_spec_gets_its_own_class_policies() -> None:
    before = resource_of(SPEC)
    after = replace(before, spec=replace(before.spec, priority=Priority()))
    assert slo_targets(after.class_policies)[ClassName.Q2] == 2.0
    assert slo_targets(before.class_policies)[ClassName.Q2] == 1.5
