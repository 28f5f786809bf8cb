"""Priority classes of a resource with every default filled in.

A resolved policy has no absent field. The gateway's route and the scaling loop read the same policies, so
that they cannot disagree about an SLO target.
"""

from collections.abc import Mapping, Sequence

from r1_common.contracts.priority_classes import ClassPolicy, PriorityClass
from r1_operator.api.scaling import ClassName, Priority, PriorityClassSpec

CLASS_DEFAULTS = (
    PriorityClassSpec(ClassName.Q1, 256, 30, 5, 500),
    PriorityClassSpec(ClassName.Q2, 512, 120, 30, 2_000),
    PriorityClassSpec(ClassName.Q3, 1024, 900, 120, 30_000),
)
"""Interactive, normal and batch requests: values of the fields that a resource leaves out."""


def resolve_class_policies(priority: Priority) -> tuple[ClassPolicy, ...]:
    """Return the policy of every class, in the order of `PriorityClass`; times in seconds."""
    own = {one.name: one for one in priority.classes}
    return tuple(_resolved(default, own.get(default.name, default)) for default in CLASS_DEFAULTS)


def slo_targets(policies: Sequence[ClassPolicy]) -> Mapping[ClassName, float]:
    """Return the SLO target of each class: the time to first token in seconds, 0 without one."""
    return {
        name: policies[PriorityClass[name.value]].time_to_first_token_seconds or 0.0
        for name in ClassName
    }


def _resolved(default: PriorityClassSpec, own: PriorityClassSpec) -> ClassPolicy:
    def value(field: str) -> int:
        given = getattr(own, field)
        return int(getattr(default, field) if given is None else given)

    return ClassPolicy(
        max_queue_length=value("max_queue_length"),
        max_queue_seconds=value("max_queue_seconds"),
        age_after_seconds=value("age_after_seconds"),
        time_to_first_token_seconds=value("time_to_first_token_milliseconds") / 1000,
    )
