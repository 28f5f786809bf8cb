"""Victims of a scale-down: the least loaded ready pods.

The ReplicaSet controller orders its pods by: no node before a node, Pending before Running, not ready
before ready, lower `controller.kubernetes.io/pod-deletion-cost` (default 0), more pods on the same node,
younger. Without a cost it may stop a pod in the middle of a long stream while an idle pod stays. So
before a scale-down the victims get a cost below all others.

A cost is written only where it changes the outcome: not where all pods stop, where unready pods are
enough, where all are equally loaded, or where the pod has the cost already. A victim that stayed (load
returned first) loses its cost at the next scale-down.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from r1_common.contracts.unavailable import Unavailable
from r1_operator.plan.signals.counter_sample import CounterSample
from r1_operator.plan.snapshot import Pod

VICTIM_COST: Final = -1
"""Deletion cost of a victim; below the default of 0."""

_REVISION_LABEL: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """A cost to write on a pod (None: remove it); `load`: its requests in flight."""

    pod: Pod
    cost: int | None
    load: float


def pod_loads(
    samples: Iterable[CounterSample], *, gateways: Collection[str], silent: Collection[str]
) -> Mapping[str, float] | Unavailable:
    """Return requests in flight by pod address over all gateways; `samples` are of one resource.

    A pod that no gateway lists has none. Unavailable unless every gateway reports them.
    """
    if not gateways:
        return Unavailable("NoGateway", "No gateway is known, so the load per pod is unknown.")
    if silent:
        return Unavailable(
            "GatewayUnreachable", f"Gateway {', '.join(sorted(silent))} does not answer."
        )
    loads: dict[str, float] = {}
    for sample in samples:
        if sample.in_flight_by_pod is None:
            return Unavailable("NotReported", f"Gateway {sample.gateway} reports no load per pod.")
        for address, load in sample.in_flight_by_pod.items():
            loads[address] = loads.get(address, 0.0) + load
    return loads


def plan_deletion_costs(
    pods: Sequence[Pod], loads: Mapping[str, float] | Unavailable, desired: int
) -> tuple[DeletionCost, ...]:
    """Return the costs to write before a scale-down to `desired`; none without a scale-down.

    Each ReplicaSet (a rollout has several) gets victims for the whole scale-down, because the Deployment
    controller decides how to divide it.
    """
    living = [pod for pod in pods if not (pod.terminating or pod.ended)]
    surplus = len(living) - desired
    if isinstance(loads, Unavailable) or surplus <= 0 or desired <= 0:
        return ()
    by_revision: dict[str, list[Pod]] = {}
    for pod in living:
        by_revision.setdefault(pod.labels.get(_REVISION_LABEL, ""), []).append(pod)
    return tuple(cost for group in by_revision.values() for cost in _within(group, loads, surplus))


def _within(
    group: Sequence[Pod], loads: Mapping[str, float], surplus: int
) -> Iterable[DeletionCost]:
    serving = [pod for pod in group if pod.serves]
    count = min(surplus - (len(group) - len(serving)), len(serving))
    load = {pod.uid: loads.get(pod.address, 0.0) for pod in serving}
    # Among equals: a pod with the cost already (no write), then the youngest (coldest cache).
    order = sorted(serving, key=lambda pod: (load[pod.uid], not _marked(pod), -pod.created_at))
    chosen = order[: max(count, 0)]
    if len(chosen) == len(serving) or len(set(load.values())) == 1:
        chosen = []
    victims = {pod.uid for pod in chosen}
    for pod in order:
        if pod.uid in victims and not _marked(pod):
            yield DeletionCost(pod, VICTIM_COST, load[pod.uid])
        elif pod.uid not in victims and _marked(pod):
            yield DeletionCost(pod, None, load[pod.uid])


def _marked(pod: Pod) -> bool:
    return pod.deletion_cost == VICTIM_COST
