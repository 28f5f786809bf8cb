"""Which pods go when the count falls: the least loaded of those that serve.

The ReplicaSet controller picks among its pods by rules of its own, the first that tells two apart:
no node before a node, Pending before Running, not ready before ready, then the lower
`controller.kubernetes.io/pod-deletion-cost` (0 where it is not set), then neighbours on one node,
then the younger. Left alone it may stop a pod in the middle of a long stream while an idle one
stands by. So just before a count falls, the pods that may go get a cost below all others.

Only what changes the outcome is written: nothing where all go, where those that are not ready are
enough, or where all are equally loaded; and no pod that is marked already. A pod that was marked
and stayed (the load came back first) loses its mark when the count next falls.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from r1_operator.plan.signals.demand import CounterSample
from r1_operator.plan.snapshot import Pod
from r1_operator.plan.unavailable import Unavailable

VICTIM_COST: Final = -1
"""The deletion cost of a pod that goes first; below the 0 of those without one."""

_REVISION_LABEL: Final = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class DeletionCost:
    """A cost to write on a pod, None to take the one of before off; `load` is why (requests)."""

    pod: Pod
    cost: int | None
    load: float


def pod_loads(
    samples: Iterable[CounterSample], *, gateways: Collection[str], silent: Collection[str]
) -> Mapping[str, float] | Unavailable:
    """Requests in flight by pod address, over all gateways; `samples` are of one resource.

    A pod that no gateway names has none. Unavailable unless every gateway has said.
    """
    if not gateways:
        return Unavailable("NoGateway", "No gateway is known that could say what pods are doing.")
    if silent:
        return Unavailable("GatewaySilent", f"Gateway {', '.join(sorted(silent))} does not answer.")
    loads: dict[str, float] = {}
    for sample in samples:
        if sample.in_flight_by_pod is None:
            return Unavailable("NotReported", f"Gateway {sample.gateway} counts nothing by pod.")
        for address, load in sample.in_flight_by_pod.items():
            loads[address] = loads.get(address, 0.0) + load
    return loads


def plan_deletion_costs(
    pods: Sequence[Pod], loads: Mapping[str, float] | Unavailable, wanted: int
) -> tuple[DeletionCost, ...]:
    """What to write on which pod before the count becomes `wanted`; nothing where it would not fall.

    Each ReplicaSet (there are several during a rollout) gets victims for the whole fall, because
    how the Deployment divides it among them is not ours to know.
    """
    living = [pod for pod in pods if not (pod.terminating or pod.ended)]
    surplus = len(living) - wanted
    if isinstance(loads, Unavailable) or surplus <= 0 or wanted <= 0:
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
    # Among equals: one that is marked already, which costs no write, then the coldest cache.
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
