"""Accelerators of one replica, for engine, tolerations and budgets.

They are read from the merged pod: `spec.resources`, the site's template and the resource's own. The number
of devices of a ResourceClaim is not in the pod.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from r1_operator.api.accelerators import is_accelerator
from r1_operator.api.names import CONTAINER, ConditionReason
from r1_operator.api.serving import Resources
from r1_operator.api.v1 import Spec
from r1_operator.plan.placement.node_parsing import container_requests, requests_of
from r1_operator.plan.placement.schedulable import Amounts
from r1_operator.plan.problem import Problem, Unplannable
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload.template import merge_template


@dataclass(frozen=True, slots=True)
class Accelerators:
    """Devices by resource name: of the engine's container, and of the whole pod."""

    engine: Mapping[str, int] = field(default_factory=dict)
    replica: Mapping[str, int] = field(default_factory=dict)
    claimed: bool = False
    """the engine's container also uses a ResourceClaim with an unknown number of devices"""

    @property
    def for_engine(self) -> int:
        """Devices that one model can be split over."""
        return sum(self.engine.values())

    @property
    def per_replica(self) -> int:
        """Devices of a replica, as budgets count them."""
        return sum(self.replica.values())


def accelerators_of(spec: Spec, defaults: Defaults | None = None) -> Accelerators:
    """Return the accelerators of one replica; `defaults`: the site's template and resource names."""
    pod = _pod(spec, defaults)
    engine: Mapping[str, Any] = next(
        (one for one in pod.get("containers") or () if one.get("name") == CONTAINER), {}
    )
    further = () if defaults is None else defaults.accelerators
    resources = engine.get("resources")
    return Accelerators(
        engine=_devices(container_requests(engine), further),
        replica=_devices(requests_of(pod), further),
        claimed=isinstance(resources, Mapping) and bool(resources.get("claims")),
    )


def default_image(spec: Spec, defaults: Defaults) -> str:
    """Return the site's image of the engine Bundled, with or without the libraries of GPUs."""
    accelerators = accelerators_of(spec, defaults)
    gpu = accelerators.for_engine > 0 or accelerators.claimed
    return (defaults.runtime_gpu_image if gpu else "") or defaults.runtime_image


def uncountable_budget(spec: Spec, defaults: Defaults) -> Problem | None:
    """Report a budget of accelerators for replicas without countable accelerators.

    Such a budget would not limit anything, so no replica is created.
    """
    budget = spec.autoscaling.budget if spec.autoscaling is not None else None
    by_gpu = budget is not None and budget.cost is not None and budget.cost.price_per_gpu_hour
    if budget is None or (budget.gpus is None and not by_gpu):
        return None
    accelerators = accelerators_of(spec, defaults)
    if accelerators.per_replica:
        return None
    field = "gpus" if budget.gpus is not None else "cost.pricePerGpuHour"
    why = "a replica has none of a known kind"
    if accelerators.claimed:
        why = "the number of devices of a ResourceClaim is unknown"
    return Problem(
        ConditionReason.INVALID_SPEC,
        f"spec.autoscaling.budget.{field} counts accelerators, and {why}: list them in "
        "spec.resources.limits, add their resource name to the chart's operator.accelerators, or "
        "set budget.cost.pricePerReplicaHour or budget.power instead.",
    )


def amounts_of(resources: Resources) -> dict[str, dict[str, str]]:
    """Return the amounts as the API server stores them, so that an unchanged Deployment is equal."""
    amounts = {"limits": resources.limits, "requests": resources.requests}
    return {
        kind: {name: quantity.canonical for name, quantity in found.items()}
        for kind, found in amounts.items()
        if found
    }


def _pod(spec: Spec, defaults: Defaults | None) -> Mapping[str, Any]:
    """Return the resource part of the PodSpec; an invalid template is ignored."""
    engine = {"name": CONTAINER, "resources": amounts_of(spec.resources)}
    own: Mapping[str, Any] = {"spec": {"containers": [engine]}}
    try:
        merged = merge_template(own, {} if defaults is None else defaults.template)
        merged = merge_template(merged, {"spec": spec.template.spec})
    except Unplannable:
        merged = dict(own)
    pod: Mapping[str, Any] = merged["spec"]
    return pod


def _devices(amounts: Amounts, further: tuple[str, ...]) -> dict[str, int]:
    return {
        name: ceil(amount)
        for name, amount in sorted(amounts.items())
        if amount > 0 and is_accelerator(name, further)
    }
