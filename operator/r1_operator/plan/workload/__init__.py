"""Every child of a resource as a complete manifest for server-side apply.

All builders are pure: equal inputs give equal manifests. The Deployment comes last, so
that its pods find their Service and gateways their route.
"""

from typing import Any

from r1_operator.api.v1 import R1Inference
from r1_operator.plan.problem import Unplannable
from r1_operator.plan.snapshot import ABSENT, Defaults, Found
from r1_operator.plan.workload.accelerators import uncountable
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
    """The children in the order to apply them. Raises Unplannable.

    `deployment` is the present one: while nothing that shapes its pods has changed, it keeps
    the rendering that it was made with (see `revision.py`).
    """
    problem = uncountable(resource.spec, defaults)
    if problem is not None:
        raise Unplannable(problem)
    rendering = rendering_for(resource, defaults, deployment)
    children = [
        build_route(resource),
        build_service(resource),
        build_disruption_budget(resource),
    ]
    if service_monitors:
        children.append(build_service_monitor(resource, defaults))
    template = build_pod_template(resource, defaults, rendering)
    return [*children, build_deployment(resource, defaults, replicas, rendering, template)]
