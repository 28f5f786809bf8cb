"""The plan of one resource: everything that should exist, and what to say about it.

Total: whatever was observed, there is a plan. Where no children can be made (a template
that cannot be merged, a child of that name which is not ours, a fault of a builder) none
is applied, what runs stays as it is, and the status says why.
"""

import logging
from dataclasses import dataclass
from typing import Any

from r1_operator.api.names import ConditionReason
from r1_operator.plan.problem import Problem, Unplannable
from r1_operator.plan.scaling.decision import Decision
from r1_operator.plan.snapshot import Observed
from r1_operator.plan.status.diagnosis import foreign_child, seconds_until_more_is_known
from r1_operator.plan.status.resource_status import desired_replicas, plan_status
from r1_operator.plan.workload import plan_children

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """Manifests to apply in this order, and the status to write."""

    children: tuple[dict[str, Any], ...]
    status: dict[str, Any]
    problem: Problem | None = None
    """why there are no children, if there are none"""
    look_again: float | None = None
    """seconds after which the same observation may mean something else"""


def plan(observed: Observed, decision: Decision | None, now: float) -> ResourcePlan:
    """What should exist, given what is observed and how many replicas were decided."""
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
    status = plan_status(observed, decision, now, unplannable=problem)
    again = seconds_until_more_is_known(observed, now)
    return ResourcePlan(tuple(children), status, problem, again)
