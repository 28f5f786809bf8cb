"""The PodDisruptionBudget: a node drain evicts one replica at a time.

`maxUnavailable: 1` and not `minAvailable`, which would block the drain of a single replica for ever. An
unhealthy pod may always be evicted, because it serves no requests.
"""

from typing import Any

from r1_operator.api.v1 import R1Inference
from r1_operator.plan.workload.metadata import child_metadata, selector


def build_disruption_budget(resource: R1Inference) -> dict[str, Any]:
    """A PodDisruptionBudget over the resource's pods."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(resource),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector(resource)},
        },
    }
