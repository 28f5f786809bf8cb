"""Plan of one resource: the children to apply.

Total: every observation gives a plan. Where the children cannot be built (an invalid template, a child
with another owner, a fault of a builder), nothing is applied, the running children stay, and the plan
has the problem.

The status is planned once, after the children are applied (`status/resource_status.py`): it shows what
they have become, and the problem of this plan.
"""

import logging
from dataclasses import dataclass
from typing import Any

from r1_operator.api.names import ConditionReason
from r1_operator.plan.problem import Problem, Unplannable
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.snapshot import Observed
from r1_operator.plan.status.diagnosis import foreign_child, requeue_delay
from r1_operator.plan.status.resource_status import desired_replicas
from r1_operator.plan.workload import plan_children

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """Manifests to apply, in this order."""

    children: tuple[dict[str, Any], ...]
    problem: Problem | None = None
    """why there are no children; None where there are some"""
    requeue_after: float | None = None
    """seconds after which the same observation may give another plan"""


def plan(observed: Observed, decision: Decision | None, now: float) -> ResourcePlan:
    """Return the children for the observed state and the decided count. `now`: the process' clock (s)."""
    problem = foreign_child(observed)
    children: list[dict[str, Any]] = []
    if problem is None:
        try:
            children = plan_children(
                observed.resource,
                observed.defaults,
                desired_replicas(observed, decision),
                deployment=observed.deployment,
                service_monitors=observed.has_service_monitors,
            )
        except Unplannable as error:
            problem = error.problem
        except (
            Exception
        ) as error:  # a fault of a builder must not keep the status from being written
            logger.exception("%s: the manifests could not be built", observed.resource.key)
            problem = Problem(
                ConditionReason.MANIFEST_BUILD_FAILED,
                f"The operator failed to build the manifests ({type(error).__name__}: {error}): "
                "undo the last change of the spec and report this message.",
            )
    return ResourcePlan(tuple(children), problem, requeue_delay(observed, now))
