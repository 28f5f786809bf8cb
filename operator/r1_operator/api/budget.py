"""Spec types for budgets (accelerators, cost, power) and for free capacity on nodes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from r1_common.kube.quantity import Quantity
from r1_operator.api.accelerators import GPU, NAMES, PREFIXES, is_accelerator
from r1_operator.api.fields.declare import Doc, Rule

SLACK: Final = 1e-9
"""Relative tolerance: CEL multiplies quantities as doubles, and 3 x 0.1 has to fit into 0.3."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A cost limit and one price, in the same currency."""

    limit_per_hour: Annotated[
        Quantity,
        Doc(
            "is the cost limit of all replicas together, per hour, in any currency.",
            max_length=32,
            positive=True,
        ),
    ]
    price_per_gpu_hour: Annotated[
        Quantity | None,
        Doc(
            "is the price of one GPU or other accelerator per hour, in the currency of "
            "limitPerHour.",
            max_length=32,
            positive=True,
        ),
    ] = None
    price_per_replica_hour: Annotated[
        Quantity | None,
        Doc(
            "is the price of one replica per hour, in the currency of limitPerHour.",
            max_length=32,
            positive=True,
        ),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.pricePerGpuHour) != has(self.pricePerReplicaHour)",
            "exactly one of pricePerGpuHour and pricePerReplicaHour must be set",
            lambda self: (self.price_per_gpu_hour is None) != (self.price_per_replica_hour is None),
        ),
    )


@dataclass(frozen=True, slots=True)
class Power:
    """A power limit and the power of one replica, both in watts."""

    limit_watts: Annotated[
        Quantity,
        Doc("is the power limit of all replicas together, in watts.", max_length=32, positive=True),
    ]
    watts_per_replica: Annotated[
        Quantity,
        Doc(
            "is the power of one replica at full load, in watts: the power caps of its GPUs"
            " and its share of the node.",
            max_length=32,
            positive=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Budget:
    gpus: Annotated[
        int | None,
        Doc(
            "is the number of GPUs or other accelerators that all replicas together may hold.",
            minimum=1,
            maximum=1_000_000,
        ),
    ] = None
    cost: Annotated[Cost | None, Doc("limits the cost of all replicas per hour.")] = None
    power: Annotated[Power | None, Doc("limits the power of all replicas.")] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.gpus) || has(self.cost) || has(self.power)",
            "at least one of gpus, cost and power must be set",
            lambda self: (self.gpus, self.cost, self.power) != (None, None, None),
        ),
    )


class CapacityPolicy(StrEnum):
    """Unlimited requests every recommended replica, Bindable the replicas that fit on a node."""

    UNLIMITED = "Unlimited"
    BINDABLE = "Bindable"


@dataclass(frozen=True, slots=True)
class Capacity:
    policy: Annotated[
        CapacityPolicy,
        Doc(
            "is the rule for replicas that no node can hold. Unlimited requests all of "
            "them, so that a node autoscaler adds nodes. Bindable requests only the "
            "replicas that fit on a node now, and pendingReplicas more."
        ),
    ] = CapacityPolicy.UNLIMITED
    pending_replicas: Annotated[
        int,
        Doc(
            "is the number of replicas that may wait for a node under Bindable. They start "
            "first when a node has free capacity, and a node autoscaler sees them as "
            "pending pods.",
            minimum=0,
            maximum=10_000,
        ),
    ] = 1


def _double(path: str) -> str:
    """A quantity in CEL as a double; 0 for an invalid one, which has its own rule."""
    text = f"string({path})"
    return f"(isQuantity({text}) ? quantity({text}).asApproximateFloat() : 0.0)"


_IS_ACCELERATOR = " || ".join(
    [
        "k in [" + ", ".join(f"'{name}'" for name in NAMES) + "]",
        *(f"k.startsWith('{prefix}')" for prefix in PREFIXES),
    ]
)


def _gpus_in(kind: str, but: str = "true") -> str:
    here = f"self.resources.{kind}"
    each = f"{here}.map(k, ({_IS_ACCELERATOR}) && {but}, {_double(f'{here}[k]')})"
    return f"(has({here}) ? {each}.sum() : 0.0)"


_IN_LIMITS = "(has(self.resources.limits) && k in self.resources.limits)"
_GPUS = (
    f"(!has(self.resources) ? 0.0 : {_gpus_in('limits')} + "
    f"{_gpus_in('requests', f'!{_IN_LIMITS}')})"
)
# The schema knows neither the resources of a template nor the accelerators of the site.
_MAY_HOLD = (
    f"{_GPUS} > 0.0 || has(self.template) || (has(self.resources) && ("
    "(has(self.resources.limits) && self.resources.limits.exists(k, k.contains('/'))) || "
    "(has(self.resources.requests) && self.resources.requests.exists(k, k.contains('/')))))"
)
_FEWEST = "(self.autoscaling.minReplicas > 1 ? double(self.autoscaling.minReplicas) : 1.0)"
_BUDGET = "self.autoscaling.budget"
_COST = f"{_BUDGET}.cost"


def _where(*parts: str) -> str:
    """CEL: one of these fields is absent, or the following expression holds."""
    paths = ["self.autoscaling", _BUDGET, *parts]
    return "!(" + " && ".join(f"has({path})" for path in paths) + ") || "


def _fits(needed: str, limit: str) -> str:
    return f"{needed} <= {limit} * {1 + SLACK!r}"


def _gpus(spec: Any) -> float:
    """Accelerators per replica in spec.resources, which is all that the schema can read."""
    amounts: dict[str, Quantity] = dict(spec.resources.requests) | dict(spec.resources.limits)
    return float(sum(q.value for name, q in amounts.items() if is_accelerator(name)))


def _may_hold(spec: Any) -> bool:
    others = any("/" in name for name in (*spec.resources.limits, *spec.resources.requests))
    return _gpus(spec) > 0 or spec.template != type(spec.template)() or others


def _budget(spec: Any) -> Budget:
    budget = spec.autoscaling.budget if spec.autoscaling is not None else None
    return budget if budget is not None else Budget()


def _holds(spec: Any, each: float, limit: float) -> bool:
    fewest = max(1, spec.autoscaling.min_replicas)
    return bool(fewest * each <= limit * (1 + SLACK))


def _gpus_hold(spec: Any) -> bool:
    gpus = _budget(spec).gpus
    return gpus is None or _holds(spec, _gpus(spec), gpus)


def _cost_holds(spec: Any) -> bool:
    cost = _budget(spec).cost
    if cost is None:
        return True
    if cost.price_per_replica_hour is not None:
        each = float(cost.price_per_replica_hour)
    elif cost.price_per_gpu_hour is not None:
        each = float(cost.price_per_gpu_hour) * _gpus(spec)
    else:
        return True
    return _holds(spec, each, float(cost.limit_per_hour))


def _power_holds(spec: Any) -> bool:
    power = _budget(spec).power
    return power is None or _holds(spec, float(power.watts_per_replica), float(power.limit_watts))


def _priced_gpus(spec: Any) -> bool:
    cost = _budget(spec).cost
    return cost is None or cost.price_per_gpu_hour is None or _may_hold(spec)


_NO_GPUS = f"counts accelerators, but spec.resources.limits has no {GPU} and no other accelerator"

# Rules on the whole spec, because the accelerators of a replica are in spec.resources.
BUDGET_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        _where(f"{_BUDGET}.gpus") + _MAY_HOLD,
        f"budget.gpus {_NO_GPUS}",
        lambda self: _budget(self).gpus is None or _may_hold(self),
        "autoscaling.budget.gpus",
    ),
    Rule(
        _where(f"{_BUDGET}.gpus") + _fits(f"{_FEWEST} * {_GPUS}", f"double({_BUDGET}.gpus)"),
        "budget.gpus must allow minReplicas and at least one replica",
        _gpus_hold,
        "autoscaling.budget.gpus",
    ),
    Rule(
        _where(_COST, f"{_COST}.pricePerGpuHour") + _MAY_HOLD,
        f"pricePerGpuHour {_NO_GPUS}: set it, or pricePerReplicaHour",
        _priced_gpus,
        "autoscaling.budget.cost.pricePerGpuHour",
    ),
    Rule(
        _where(_COST)
        + _fits(
            f"{_FEWEST} * (has({_COST}.pricePerReplicaHour) "
            f"? {_double(f'{_COST}.pricePerReplicaHour')} : has({_COST}.pricePerGpuHour) "
            f"? {_double(f'{_COST}.pricePerGpuHour')} * {_GPUS} : 0.0)",
            _double(f"{_COST}.limitPerHour"),
        ),
        "budget.cost.limitPerHour must allow minReplicas and at least one replica",
        _cost_holds,
        "autoscaling.budget.cost.limitPerHour",
    ),
    Rule(
        _where(f"{_BUDGET}.power")
        + _fits(
            f"{_FEWEST} * {_double(f'{_BUDGET}.power.wattsPerReplica')}",
            _double(f"{_BUDGET}.power.limitWatts"),
        ),
        "budget.power.limitWatts must allow minReplicas and at least one replica",
        _power_holds,
        "autoscaling.budget.power.limitWatts",
    ),
)
