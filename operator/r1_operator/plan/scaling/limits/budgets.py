"""Budgets in replicas: an upper bound per budget, with a clause for messages.

All figures are exact fractions until the bound is a whole number: a budget of 0.3 at 0.1 per replica
allows three replicas.
"""

from fractions import Fraction
from math import floor

from r1_operator.api.budget import Budget, Cost, Power
from r1_operator.api.v1 import Spec
from r1_operator.plan.scaling.policy import Ceiling
from r1_operator.plan.scaling.reasons import DecisionReason
from r1_operator.plan.snapshot import Defaults
from r1_operator.plan.workload.accelerators import accelerators_of


def ceilings_of(spec: Spec, defaults: Defaults | None = None) -> tuple[Ceiling, ...]:
    """Return the ceiling of each budget that the spec sets; none without autoscaling or budget.

    `defaults`: the site's pod template and further accelerator names.
    """
    budget = spec.autoscaling.budget if spec.autoscaling is not None else None
    if budget is None:
        return ()
    gpus = gpus_per_replica(spec, defaults)
    found = [_of_gpus(budget, gpus), _of_cost(budget.cost, gpus), _of_power(budget.power)]
    return tuple(ceiling for ceiling in found if ceiling is not None)


def gpus_per_replica(spec: Spec, defaults: Defaults | None = None) -> int:
    """Return the accelerators of one pod, of all kinds and in all containers."""
    return accelerators_of(spec, defaults).per_replica


def _of_gpus(budget: Budget, gpus: int) -> Ceiling | None:
    if budget.gpus is None or gpus <= 0:
        return None
    most = budget.gpus // gpus
    clause = f"the budget of {budget.gpus} GPUs allows {most} at {gpus} per replica"
    return Ceiling(most, DecisionReason.AT_GPU_BUDGET, clause)


def _of_cost(cost: Cost | None, gpus: int) -> Ceiling | None:
    if cost is None:
        return None
    price, price_clause = _price(cost, gpus)
    if price <= 0:
        return None
    most = floor(cost.limit_per_hour.value / price)
    clause = f"the budget of {cost.limit_per_hour} per hour allows {most} at {price_clause}"
    return Ceiling(most, DecisionReason.AT_COST_BUDGET, clause)


def _price(cost: Cost, gpus: int) -> tuple[Fraction, str]:
    if cost.price_per_replica_hour is not None:
        return cost.price_per_replica_hour.value, f"{cost.price_per_replica_hour} per replica"
    if cost.price_per_gpu_hour is None:
        return Fraction(0), ""
    each = "1 GPU" if gpus == 1 else f"{gpus} GPUs"
    return (
        cost.price_per_gpu_hour.value * gpus,
        f"{each} per replica, {cost.price_per_gpu_hour} each",
    )


def _of_power(power: Power | None) -> Ceiling | None:
    if power is None:
        return None
    most = floor(power.limit_watts.value / power.watts_per_replica.value)
    clause = (
        f"the power limit of {power.limit_watts} W allows {most} at {power.watts_per_replica} W "
        "per replica"
    )
    return Ceiling(most, DecisionReason.AT_POWER_BUDGET, clause)
