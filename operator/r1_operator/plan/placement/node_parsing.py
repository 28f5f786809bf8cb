"""Parsing of nodes and pods for `schedulable.py`; absent and malformed fields are tolerated."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from r1_common.kube.quantity import NotAQuantity, parse_quantity
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
"""Key of the node's name among its labels, for node affinity; no label has a colon."""

CORDON = "node.kubernetes.io/unschedulable"


def requests_of(pod_spec: Object) -> dict[str, Fraction]:
    """Return the effective requests of a pod, by the scheduler's rule.

    Containers and sidecars (restartable init containers) add up. Another init container counts where it
    and the sidecars before it need more. Pod-level requests and the overhead come last.
    """
    running = _sum(map(container_requests, pod_spec.get("containers") or ()))
    peak: dict[str, Fraction] = {}
    beside: dict[str, Fraction] = {}
    for container in pod_spec.get("initContainers") or ():
        requested = container_requests(container)
        if container.get("restartPolicy") == "Always":
            beside = _sum((beside, requested))
            requested = {}
        peak = _largest(peak, _sum((beside, requested)))
    total = _largest(_sum((running, beside)), peak)
    whole = pod_spec.get("resources")
    total |= _amounts(whole.get("requests") if isinstance(whole, Mapping) else None)
    return _sum((total, _amounts(pod_spec.get("overhead"))))


def read_shape(pod_spec: Object) -> PodShape:
    """Return requests and placement constraints of a pod spec."""
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
    """Return a node with its free amounts; `used`: requests and number of its pods."""
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
    """Add a pod's requests to those of its node; an unassigned or finished pod uses nothing."""
    spec = pod.get("spec") or {}
    node = spec.get("nodeName")
    if not node or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return
    used[node] = _sum((used.get(node, {}), requests_of(spec), {PODS: Fraction(1)}))


def _taints(node_spec: Object) -> tuple[Taint, ...]:
    """Return the taints that repel pods. A cordon is one: a pod that tolerates all passes it."""
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


def container_requests(container: Object) -> dict[str, Fraction]:
    """Return a container's requests, with limits as defaults, as the API server sets them."""
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
