"""What a budget comes to in replicas: an upper bound of each kind, and the words for it.

All figures are exact fractions until the bound is a whole number, so that a budget of 0.3 at 0.1
each is three replicas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Any

from r1_operator.api.budget import GPU, Budget, Cost, Power
from r1_operator.api.names import CONTAINER
from r1_operator.api.quantity import NotAQuantity, parse_quantity
from r1_operator.api.v1 import Spec
from r1_operator.plan.decision import Reason


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most replicas that one budget allows, and why in words: a clause without a full stop."""

    replicas: int
    reason: Reason
    clause: str


def ceilings_of(spec: Spec) -> tuple[Ceiling, ...]:
    """Return the bound of each budget that the spec sets; none without autoscaling or budget."""
    budget = spec.autoscaling.budget if spec.autoscaling is not None else None
    if budget is None:
        return ()
    gpus = gpus_per_replica(spec)
    found = [_of_gpus(budget, gpus), _of_cost(budget.cost, gpus), _of_power(budget.power)]
    return tuple(ceiling for ceiling in found if ceiling is not None)


def lowest(ceilings: Sequence[Ceiling]) -> Ceiling | None:
    """Return the bound that binds first, None where there is none."""
    return min(ceilings, key=lambda ceiling: ceiling.replicas, default=None)


def gpus_per_replica(spec: Spec) -> int:
    """Return how many GPUs one pod holds, with what `spec.template` changes or adds."""
    engine = _gpus({"limits": spec.resources.limits, "requests": spec.resources.requests})
    others = 0
    containers = spec.template.spec.get("containers")
    for container in containers if isinstance(containers, list | tuple) else ():
        if not isinstance(container, Mapping):
            continue
        asked = _gpus(container.get("resources"))
        if container.get("name") == CONTAINER:
            engine = asked if asked is not None else engine
        else:
            others += asked or 0
    return (engine or 0) + others


def _gpus(resources: Any) -> int | None:
    """GPUs of one container; None where it names none. What is no amount counts as none."""
    if not isinstance(resources, Mapping):
        return None
    for kind in ("limits", "requests"):
        amounts = resources.get(kind)
        raw = amounts.get(GPU) if isinstance(amounts, Mapping) else None
        if raw is None:
            continue
        try:
            return ceil(parse_quantity(getattr(raw, "raw", raw)).value)
        except NotAQuantity:
            return None
    return None


def _of_gpus(budget: Budget, gpus: int) -> Ceiling | None:
    if budget.gpus is None or gpus <= 0:
        return None
    most = budget.gpus // gpus
    clause = f"the budget of {budget.gpus} GPUs allows {most} at {gpus} each"
    return Ceiling(most, Reason.AT_GPU_BUDGET, clause)


def _of_cost(cost: Cost | None, gpus: int) -> Ceiling | None:
    if cost is None:
        return None
    price, words = _price(cost, gpus)
    if price <= 0:
        return None
    most = floor(cost.limit_per_hour.value / price)
    clause = f"the budget of {cost.limit_per_hour} an hour allows {most} at {words}"
    return Ceiling(most, Reason.AT_COST_BUDGET, clause)


def _price(cost: Cost, gpus: int) -> tuple[Fraction, str]:
    if cost.price_per_replica_hour is not None:
        return cost.price_per_replica_hour.value, f"{cost.price_per_replica_hour} each"
    if cost.price_per_gpu_hour is None:
        return Fraction(0), ""
    each = "1 GPU" if gpus == 1 else f"{gpus} GPUs"
    return cost.price_per_gpu_hour.value * gpus, f"{each} of {cost.price_per_gpu_hour} each"


def _of_power(power: Power | None) -> Ceiling | None:
    if power is None:
        return None
    most = floor(power.limit_watts.value / power.watts_per_replica.value)
    clause = (
        f"the power limit of {power.limit_watts} W allows {most} at {power.watts_per_replica} W "
        "each"
    )
    return Ceiling(most, Reason.AT_POWER_BUDGET, clause)
