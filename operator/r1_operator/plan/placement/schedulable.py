"""Schedulable capacity: how many more replicas fit on the nodes now.

The free amount of a node is its allocatable minus the requests of its pods. A node counts if it is ready
and schedulable, if the pod tolerates its taints, and if it matches the node selector and the required
node affinity. The scheduler checks more (pod affinity, topology spread, volumes, ports, preemption). So
the count is an upper bound, and an overestimate ends as a pending pod.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from r1_common.contracts.unavailable import Unavailable

NODES_PENDING = Unavailable("Pending", "The nodes are being listed.")
"""State until the first node list; a scale-up waits for it."""

PODS = "pods"
"""Name of the node resource that limits the number of pods."""

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
    """A pod's toleration; an empty key or effect matches all."""

    key: str = ""
    exists: bool = False
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether the pod tolerates the taint."""
        if self.effect and self.effect != taint.effect:
            return False
        if not self.key:
            return self.exists
        return self.key == taint.key and (self.exists or self.value == taint.value)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One node selector expression: In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels matches; an unknown operator never matches."""
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
    """Requests and placement constraints of one replica.

    `terms`: alternatives of the required node affinity, each a conjunction; none means any node.
    """

    requests: Amounts
    selector: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[tuple[Requirement, ...], ...] = ()
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A node with its free amounts; a cordon is one of its taints."""

    name: str
    free: Amounts
    ready: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulableCapacity:
    """Number of further replicas that fit on nodes.

    `nodes`: number of nodes by the replicas that fit on each, full nodes left out. `suitable`: nodes that
    pass selectors and taints. `short`: missing resource of the full ones with their number, most
    frequent first.
    """

    replicas: int
    nodes: Mapping[int, int] = field(default_factory=dict)
    suitable: int = 0
    short: tuple[tuple[str, int], ...] = ()

    @property
    def summary(self) -> str:
        """The same as a clause: `1 node fits 2, 2 nodes fit 1; 3 nodes without free nvidia.com/gpu`."""
        if not self.suitable:
            return "no node matches the pod's node selectors and taints"
        parts: list[str] = []
        for each, count in sorted(self.nodes.items(), reverse=True):
            verb = "fits" if count == 1 else "fit"
            parts.append(f"{_nodes(count)} {verb} {each}")
        lacks = [f"{_nodes(count)} without free {name}" for name, count in self.short]
        return "; ".join(part for part in (", ".join(parts), ", ".join(lacks)) if part)


@dataclass(frozen=True, slots=True)
class Placement:
    """Placement of a resource's replicas and the capacity for more.

    `placed`: pods with a node when `schedulable` was counted (now, where it is unknown).
    `unschedulable`: pods that the scheduler reported as such. `schedulable`: None where not needed.
    """

    placed: int = 0
    unschedulable: int = 0
    schedulable: SchedulableCapacity | Unavailable | None = None


UNKNOWN_PLACEMENT = Placement()


def schedulable_replicas(shape: PodShape, nodes: Iterable[Node]) -> SchedulableCapacity:
    """Return how many replicas of this shape fit on the nodes."""
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
    """Whether a replica may run on the node, apart from free amounts."""
    if not node.ready:
        return False
    if any(node.labels.get(key) != value for key, value in shape.selector.items()):
        return False
    if shape.terms and not any(_all_hold(term, node.labels) for term in shape.terms):
        return False
    return all(any(t.covers(taint) for t in shape.tolerations) for taint in node.taints)


def _all_hold(term: Sequence[Requirement], labels: Mapping[str, str]) -> bool:
    # As in the scheduler, a term without expressions matches nothing.
    return bool(term) and all(requirement.holds(labels) for requirement in term)


def _fit(shape: PodShape, node: Node) -> tuple[int, str]:
    """Return how many replicas fit on a node, and the scarcest resource (devices first)."""
    needed = {PODS: Fraction(1), **{k: v for k, v in shape.requests.items() if v > 0}}
    counts = {
        name: max(node.free.get(name, Fraction(0)) // each, 0) for name, each in needed.items()
    }
    scarcest = min(counts, key=lambda name: (counts[name], "/" not in name, name))
    return counts[scarcest], scarcest


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
