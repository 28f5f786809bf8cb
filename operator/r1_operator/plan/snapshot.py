"""Snapshot of a resource and its children, the frozen input of a plan.

Times of objects are Unix seconds (UTC) of the machine that wrote them. An object that does not exist is
`ABSENT`. Children are whole objects, because the planner reads few of their fields and the applier
compares all. Pods are reduced on arrival by `read_pod`: there may be tens of thousands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

from r1_operator.api.names import CONTAINER, POD_DELETION_COST
from r1_operator.api.serving import ModelSource
from r1_operator.api.v1 import R1Inference, unix_seconds
from r1_operator.plan.container_state import Container, read_containers

Object = Mapping[str, Any]
"""A Kubernetes object in the API's own JSON shape."""


class Absent(Enum):
    """The type of `ABSENT`: the object does not exist."""

    ABSENT = "absent"


ABSENT: Final[Literal[Absent.ABSENT]] = Absent.ABSENT
Found = Object | Literal[Absent.ABSENT]


@dataclass(frozen=True, slots=True)
class Pod:
    """A model pod, reduced to the fields that plans need.

    `created_at`: accepted by the API server; `scheduled_at`: assigned to a node; `started_at`: start of
    the engine's container; `ready_at`: last change of Ready to True. None: it has not happened.
    """

    name: str
    uid: str
    phase: str
    ready: bool
    created_at: float
    node: str | None = None
    scheduled_at: float | None = None
    lacks_sandbox: bool = False
    """volumes and network are not ready (PodReadyToStartContainers is False)"""
    sandbox_awaited_since: float | None = None
    """when that was first observed on a node, by the clock of `now`; None: by `scheduled_at`"""
    started_at: float | None = None
    ready_at: float | None = None
    deleted_at: float | None = None
    restarts: int = 0
    """of the engine's container"""
    containers: tuple[Container, ...] = ()
    """containers that wait or have ended, in start order"""
    failure_reason: str = ""
    """of a pod of phase Failed: the kubelet's reason, such as Evicted"""
    failure_message: str = ""
    failed_at: float | None = None
    unschedulable_message: str = ""
    mount_message: str = ""
    """of the last FailedMount event: the pod's status has no reason for a missing volume"""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """its IP, as in the gateways' endpoints; empty before it is assigned"""
    startup_seconds: float | None = None
    """time that the startup probe allows; None without one"""
    deletion_cost: int | None = None
    """the pod-deletion-cost annotation; None where not set"""

    @property
    def terminating(self) -> bool:
        return self.deleted_at is not None

    @property
    def ended(self) -> bool:
        """Whether all containers have ended for good: the pod uses no resources."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def serves(self) -> bool:
        """Ready and not terminating: the gateway may send requests."""
        return self.ready and not self.terminating


@dataclass(frozen=True, slots=True)
class Defaults:
    """Defaults for fields that a resource does not set.

    `template`: a pod template ({metadata, spec}) that is merged over every pod before the resource's own,
    for pull secrets, tolerations or node volumes of a site.
    """

    runtime_image: str
    runtime_gpu_image: str = ""
    """of engines that request an accelerator; `runtime_image` when empty"""
    model_source: ModelSource = field(default_factory=lambda: ModelSource(bundled="demo"))
    image_pull_policy: str = "IfNotPresent"
    template: Object = field(default_factory=dict)
    monitor_interval: str = "15s"
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    """labels of every ServiceMonitor, by which a Prometheus selects them"""
    accelerators: tuple[str, ...] = ()
    """further resource names that count as accelerators"""


@dataclass(frozen=True, slots=True)
class Observed:
    """One resource and its children at one moment."""

    resource: R1Inference
    defaults: Defaults
    deployment: Found = ABSENT
    service: Found = ABSENT
    disruption_budget: Found = ABSENT
    route: Found = ABSENT
    service_monitor: Found = ABSENT
    pods: tuple[Pod, ...] = ()
    has_service_monitors: bool = False
    """the API server has monitoring.coreos.com/v1 ServiceMonitor"""
    write_errors: tuple["WriteError", ...] = ()
    """children that the API server rejected at the last apply"""
    wall_offset: float = 0.0
    """seconds to add to a time of the process' clock in the status"""
    name_conflicts: Mapping[str, str] = field(default_factory=dict)
    """model names of this resource that the gateways route to another one: name -> its key"""
    unread_kinds: frozenset[str] = frozenset()
    """kinds of children that could not be read: ABSENT here, though they may exist"""


@dataclass(frozen=True, slots=True)
class WriteError:
    """A child that could not be read or applied, with the API server's message.

    `temporary`: the same request may succeed later without a change of the spec.
    """

    kind: str
    name: str
    message: str
    temporary: bool = False


def condition_of(found: Found, kind: str) -> Object:
    """Return a condition of a child, {} where it has none."""
    if found is ABSENT:
        return {}
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def read_pod(obj: Object) -> Pod:
    """Reduce a Pod object; a new pod has almost none of the fields."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    scheduled = conditions.get("PodScheduled", {})
    statuses = status.get("containerStatuses") or ()
    engine: Object = next((one for one in statuses if one.get("name") == CONTAINER), {})
    running = (engine.get("state") or {}).get("running") or {}
    failed = status.get("phase") == "Failed"
    is_ready = ready.get("status") == "True"
    unscheduled = scheduled.get("status") == "False"
    on_node = scheduled.get("status") == "True"
    sandbox = conditions.get("PodReadyToStartContainers", {})
    return Pod(
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        phase=status.get("phase", "Pending"),
        ready=is_ready,
        created_at=_time(metadata.get("creationTimestamp")) or 0.0,
        node=(obj.get("spec") or {}).get("nodeName"),
        scheduled_at=_time(scheduled.get("lastTransitionTime")) if on_node else None,
        lacks_sandbox=sandbox.get("status") == "False",
        started_at=_time(running.get("startedAt")),
        ready_at=_time(ready.get("lastTransitionTime")) if is_ready else None,
        deleted_at=_time(metadata.get("deletionTimestamp")),
        restarts=engine.get("restartCount", 0),
        containers=read_containers(obj),
        failure_reason=(status.get("reason") or "") if failed else "",
        failure_message=(status.get("message") or "") if failed else "",
        failed_at=_last_change(status) if failed else None,
        unschedulable_message=scheduled.get("message") or "" if unscheduled else "",
        labels=metadata.get("labels") or {},
        address=status.get("podIP") or "",
        startup_seconds=_startup_seconds(obj.get("spec") or {}),
        deletion_cost=_whole((metadata.get("annotations") or {}).get(POD_DELETION_COST)),
    )


def _startup_seconds(spec: Object) -> float | None:
    """Return the time that the engine's startup probe allows, with the API's defaults."""
    containers = spec.get("containers") or ()
    engine: Object = next((one for one in containers if one.get("name") == CONTAINER), {})
    probe = engine.get("startupProbe")
    if not probe:
        return None
    tries = (probe.get("periodSeconds") or 10) * (probe.get("failureThreshold") or 3)
    return float(tries + (probe.get("initialDelaySeconds") or 0))


def _last_change(status: Object) -> float | None:
    """Return the newest time in a pod's status, because a failed pod has no time of its failure."""
    conditions = status.get("conditions") or ()
    times = [status.get("startTime"), *(one.get("lastTransitionTime") for one in conditions)]
    for one in status.get("containerStatuses") or ():
        times.append(((one.get("state") or {}).get("terminated") or {}).get("finishedAt"))
    return max((found for text in times if (found := _time(text)) is not None), default=None)


def _whole(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _time(text: str | None) -> float | None:
    return unix_seconds(text) if text else None
