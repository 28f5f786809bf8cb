"""route.json is the contract with the gateways, to the letter."""

from __future__ import annotations

import json
from typing import Any

from r1_operator.plan.workload.route import build_route


def content(resource: Any) -> dict[str, Any]:
    route: dict[str, Any] = json.loads(build_route(resource)["data"]["route.json"])
    return route


def test_all_classes_with_every_field(resource: Any) -> None:
    spec = {
        "model": {"aliases": ["chat", "r1"]},
        "priority": {
            "defaultClass": "Q3",
            "classes": [{"name": "Q1", "maxQueueLength": 0, "timeToFirstTokenMilliseconds": 250}],
        },
        "runtime": {"maxConcurrentSequences": 16},
        "rollout": {"drainSeconds": 40},
    }
    assert content(resource(spec)) == {
        "namespace": "team",
        "name": "r1",
        "models": ["r1", "chat"],
        "defaultClass": "Q3",
        "classes": {
            "Q1": {
                "maxQueueLength": 0,
                "maxQueueSeconds": 30,
                "ageAfterSeconds": 5,
                "timeToFirstTokenMilliseconds": 250,
            },
            "Q2": {
                "maxQueueLength": 512,
                "maxQueueSeconds": 120,
                "ageAfterSeconds": 30,
                "timeToFirstTokenMilliseconds": 2000,
            },
            "Q3": {
                "maxQueueLength": 1024,
                "maxQueueSeconds": 900,
                "ageAfterSeconds": 120,
                "timeToFirstTokenMilliseconds": 30000,
            },
        },
        "seatsPerReplica": 16,
        "mayWake": False,
    }


def test_a_route_may_wake_only_with_autoscaling_and_minimum_zero(resource: Any) -> None:
    autoscaling = {"maxReplicas": 2, "metrics": [{"type": "Concurrency", "target": 1}]}
    assert not content(resource({"replicas": 0}))["mayWake"]
    assert not content(resource({"autoscaling": autoscaling}))["mayWake"]
    assert content(resource({"autoscaling": {**autoscaling, "minReplicas": 0}}))["mayWake"]


def test_gateways_find_it_by_label(resource: Any) -> None:
    config_map = build_route(resource())
    assert config_map["metadata"]["name"] == "r1-route"
    assert config_map["metadata"]["labels"]["deepseek.ai/route"] == "true"
