"""From Kubernetes objects to what `room.py` counts with; tolerates what is absent or odd."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from r1_operator.api.quantity import NotAQuantity, parse_quantity
from r1_operator.plan.placement.schedulable import (
    PODS,
    Amounts,
    Node,
    PodShape,
    Requirement,
    Taint,
    Toleration,
)
from r1_operator.plan.snapshot import Object

NAME_FIELD = "field:metadata.name"
"""Stands among a node's labels for its name, which affinity may ask for; no label has a colon."""

CORDON = "node.kubernetes.io/unschedulable"


def requests_of(pod_spec: Object) -> dict[str, Fraction]:
    """Return what a node sets aside for a pod: the rule of the scheduler.

    Containers and init containers that keep running add up; another init container counts where it
    needs more, beside those that already run; the pod's own figure and its overhead come last.
    """
    running = _sum(map(asked_of, pod_spec.get("containers") or ()))
    peak: dict[str, Fraction] = {}
    beside: dict[str, Fraction] = {}
    for container in pod_spec.get("initContainers") or ():
        asked = asked_of(container)
        if container.get("restartPolicy") == "Always":
            beside = _sum((beside, asked))
            asked = {}
        peak = _largest(peak, _sum((beside, asked)))
    total = _largest(_sum((running, beside)), peak)
    whole = pod_spec.get("resources")
    total |= _amounts(whole.get("requests") if isinstance(whole, Mapping) else None)
    return _sum((total, _amounts(pod_spec.get("overhead"))))


def read_shape(pod_spec: Object) -> PodShape:
    """Return what a pod of this spec asks of a node."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return PodShape(
        requests=requests_of(pod_spec),
        selector=dict(pod_spec.get("nodeSelector") or {}),
        terms=tuple(_term(term) for term in required.get("nodeSelectorTerms") or ()),
        tolerations=tuple(
            Toleration(
                key=one.get("key") or "",
                exists=one.get("operator") == "Exists",
                value=one.get("value") or "",
                effect=one.get("effect") or "",
            )
            for one in pod_spec.get("tolerations") or ()
        ),
    )


def read_node(node: Object, used: Amounts) -> Node:
    """Return a node with what is free on it; `used` is what its pods ask for, with their number."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    conditions = {one.get("type"): one.get("status") for one in status.get("conditions") or ()}
    allocatable = _amounts(status.get("allocatable"))
    name = node["metadata"]["name"]
    return Node(
        name=name,
        free={key: amount - used.get(key, Fraction(0)) for key, amount in allocatable.items()},
        ready=conditions.get("Ready") == "True",
        labels={**(node["metadata"].get("labels") or {}), NAME_FIELD: name},
        taints=_taints(spec),
    )


def add_pod(used: dict[str, dict[str, Fraction]], pod: Object) -> None:
    """Add a pod to what is used by node; one without a node, or at its end, holds nothing."""
    spec = pod.get("spec") or {}
    node = spec.get("nodeName")
    if not node or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return
    used[node] = _sum((used.get(node, {}), requests_of(spec), {PODS: Fraction(1)}))


def _taints(node_spec: Object) -> tuple[Taint, ...]:
    """What keeps pods away. A cordon is one too: a pod that tolerates everything passes it."""
    found = [
        Taint(one.get("key") or "", one.get("value") or "", one["effect"])
        for one in node_spec.get("taints") or ()
        if one.get("effect") in ("NoSchedule", "NoExecute")
    ]
    cordon = [Taint(CORDON, "", "NoSchedule")] if node_spec.get("unschedulable") else []
    return tuple(found + cordon)


def _term(term: Object) -> tuple[Requirement, ...]:
    found = [
        Requirement(one["key"], one["operator"], tuple(one.get("values") or ()))
        for one in term.get("matchExpressions") or ()
    ]
    found += [
        Requirement(f"field:{one['key']}", one["operator"], tuple(one.get("values") or ()))
        for one in term.get("matchFields") or ()
    ]
    return tuple(found)


def asked_of(container: Object) -> dict[str, Fraction]:
    """A container's requests; of what it only limits, the limit, as the API server fills it in."""
    resources = container.get("resources")
    if not isinstance(resources, Mapping):
        return {}
    return _amounts(resources.get("limits")) | _amounts(resources.get("requests"))


def _amounts(raw: Any) -> dict[str, Fraction]:
    found: dict[str, Fraction] = {}
    for name, amount in raw.items() if isinstance(raw, Mapping) else ():
        try:
            found[name] = parse_quantity(amount).value
        except NotAQuantity:
            continue
    return found


def _sum(all_of: Iterable[Amounts]) -> dict[str, Fraction]:
    total: dict[str, Fraction] = {}
    for amounts in all_of:
        for name, amount in amounts.items():
            total[name] = total.get(name, Fraction(0)) + amount
    return total


def _largest(one: Amounts, other: Amounts) -> dict[str, Fraction]:
    zero = Fraction(0)
    return {name: max(one.get(name, zero), other.get(name, zero)) for name in {**one, **other}}
