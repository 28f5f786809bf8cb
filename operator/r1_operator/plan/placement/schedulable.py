"""Room for replicas: how many more find a node now, by what nodes have left and pods ask for.

A node's room is its allocatable less the requests of the pods that it was given. A node counts when
a replica may go there: ready, schedulable, its taints tolerated, node selector and required node
affinity fulfilled. The scheduler knows more (affinity between pods, spread, volumes, ports,
preemption): the count here is an upper bound, and what it gets wrong ends as a pending pod.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from r1_operator.plan.unavailable import Unavailable

NOT_SEEN_YET = Unavailable("Pending", "The nodes are being looked at.")
"""For a moment after the first question; what would rise waits for it."""

PODS = "pods"
"""Nodes bound the number of their pods as a resource of this name."""

Amounts = Mapping[str, Fraction]
"""Resource name -> amount, in the resource's own unit."""


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods away: effect NoSchedule or NoExecute."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    """What a pod tolerates; an empty key or effect stands for all of them."""

    key: str = ""
    exists: bool = False
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether the taint keeps the pod away no longer."""
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.exists
        return self.key == taint.key and (self.exists or self.value == taint.value)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One expression about a node's labels: In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels fulfils it; an unknown operator is never fulfilled."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        if self.operator == "Exists":
            return value is not None
        if self.operator == "DoesNotExist":
            return value is None
        if self.operator in ("Gt", "Lt") and value is not None and len(self.values) == 1:
            try:
                above = int(value) - int(self.values[0])
            except ValueError:
                return False
            return above > 0 if self.operator == "Gt" else above < 0
        return False


@dataclass(frozen=True, slots=True)
class PodShape:
    """What one replica asks of a node.

    `terms` are the alternatives of required node affinity, each a conjunction; none means any node.
    """

    requests: Amounts
    selector: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[tuple[Requirement, ...], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A node with what is free on it now; a cordon is among its taints."""

    name: str
    free: Amounts
    ready: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulableCapacity:
    """How many more replicas find a node: `replicas` in all.

    `nodes` counts nodes by the replicas that each has room for, nodes without room left out;
    `suitable` is how many nodes a replica may go to at all, and `short` what the full ones of them
    lack, with their number, most frequent first.
    """

    replicas: int
    nodes: Mapping[int, int] = field(default_factory=dict)
    suitable: int = 0
    short: tuple[tuple[str, int], ...] = ()

    @property
    def words(self) -> str:
        """The same as a clause: `1 node has room for 2, 2 nodes for 1; 3 lack nvidia.com/gpu`."""
        if not self.suitable:
            return "no node passes the pod's selectors and taints"
        parts: list[str] = []
        for each, count in sorted(self.nodes.items(), reverse=True):
            verb = "" if parts else " has room" if count == 1 else " have room"
            parts.append(f"{_nodes(count)}{verb} for {each}")
        lacks = [f"{_nodes(count)} without free {name}" for name, count in self.short]
        return "; ".join(part for part in (", ".join(parts), ", ".join(lacks)) if part)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a resource's replicas are, and for how many more there is room.

    `placed` pods had a node when `room` was looked at (now, where it is not known); of `stuck` ones
    the scheduler says that none takes them. `room` is None where nobody asked.
    """

    placed: int = 0
    stuck: int = 0
    room: SchedulableCapacity | Unavailable | None = None


NOT_ASKED = Placement()


def schedulable_replicas(shape: PodShape, nodes: Iterable[Node]) -> SchedulableCapacity:
    """Return how many replicas of this shape the nodes' free amounts take."""
    fitting: Counter[int] = Counter()
    short: Counter[str] = Counter()
    suitable = 0
    for node in nodes:
        if not admits(node, shape):
            continue
        suitable += 1
        each, scarcest = _fit(shape, node)
        if each > 0:
            fitting[each] += 1
        else:
            short[scarcest] += 1
    replicas = sum(each * count for each, count in fitting.items())
    return SchedulableCapacity(replicas, dict(fitting), suitable, tuple(short.most_common()))


def admits(node: Node, shape: PodShape) -> bool:
    """Whether a replica may go to the node, room or not."""
    if not node.ready:
        return False
    if any(node.labels.get(key) != value for key, value in shape.selector.items()):
        return False
    if shape.terms and not any(_all_hold(term, node.labels) for term in shape.terms):
        return False
    return all(any(t.covers(taint) for t in shape.tolerations) for taint in node.taints)


def _all_hold(term: Sequence[Requirement], labels: Mapping[str, str]) -> bool:
    # As for the scheduler, a term without expressions matches nothing.
    return bool(term) and all(requirement.holds(labels) for requirement in term)


def _fit(shape: PodShape, node: Node) -> tuple[int, str]:
    """How many replicas fit on a node, and the resource that is used up first (devices before all)."""
    asked = {PODS: Fraction(1), **{k: v for k, v in shape.requests.items() if v > 0}}
    counts = {
        name: max(node.free.get(name, Fraction(0)) // each, 0) for name, each in asked.items()
    }
    scarcest = min(counts, key=lambda name: (counts[name], "/" not in name, name))
    return counts[scarcest], scarcest


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
