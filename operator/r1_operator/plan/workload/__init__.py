"""Children of a resource as complete manifests for server-side apply.

All builders are pure: equal inputs give equal manifests. The Deployment is last, so that the Service and
the gateways' route exist before its pods.
"""

from typing import Any

from r1_operator.api.v1 import R1Inference
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.snapshot import ABSENT, Defaults, Found
from r1_operator.plan.workload.accelerators import default_image, uncountable_budget
from r1_operator.plan.workload.deployment import build_deployment
from r1_operator.plan.workload.disruption import build_disruption_budget
from r1_operator.plan.workload.monitor import build_service_monitor
from r1_operator.plan.workload.pod import build_pod_template
from r1_operator.plan.workload.revision import rendering_for
from r1_operator.plan.workload.route import build_route
from r1_operator.plan.workload.service import build_service

__all__ = ["plan_children"]


def plan_children(
    resource: R1Inference,
    defaults: Defaults,
    replicas: int,
    *,
    deployment: Found = ABSENT,
    service_monitors: bool = False,
) -> list[dict[str, Any]]:
    """Return the children in the order to apply them. Raises Unplannable.

    `deployment`: the present one. It keeps its rendering while no input of its pods has changed (see
    `revision.py`).
    """
    problem = uncountable_budget(resource.spec, defaults)
    if problem is not None:
        raise Unplannable(problem)
    rendering = rendering_for(
        resource, defaults, deployment, default_image(resource.spec, defaults)
    )
    children = [
        build_route(resource),
        build_service(resource),
        build_disruption_budget(resource),
    ]
    if service_monitors:
        children.append(build_service_monitor(resource, defaults))
    template = build_pod_template(resource, defaults, rendering)
    return [*children, build_deployment(resource, defaults, replicas, rendering, template)]
