"""The Deployment; the operator owns its replica count and its pod template."""

from typing import Any

from r1_operator.api.v1 import R1Inference
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload.metadata import child_metadata, selector
from r1_operator.plan.workload.revision import Rendering, stamps


def build_deployment(
    resource: R1Inference,
    defaults: Defaults,
    replicas: int,
    rendering: Rendering,
    template: dict[str, Any],
) -> dict[str, Any]:
    """A Deployment of `replicas` pods of `template`."""
    rollout = resource.spec.rollout
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": child_metadata(resource, annotations=stamps(resource, defaults, rendering)),
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": rollout.progress_deadline_seconds,
            "selector": {"matchLabels": selector(resource)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {
                    "maxSurge": rollout.max_surge,
                    "maxUnavailable": rollout.max_unavailable,
                },
            },
            "template": template,
        },
    }
