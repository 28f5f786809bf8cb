"""Free capacity of the nodes, listed only while a resource needs it.

A decision never waits: it uses the latest snapshot, and the next listing runs in the background when it
is due. Pages are aggregated on arrival, so that no pod is kept in memory. Without requests nothing is
listed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from r1_common.contracts.unavailable import Unavailable
from r1_operator.kube.client import Api, KubeApiError, RequestRefused
from r1_operator.kube.kinds import NODE, POD, Key
from r1_operator.kube.store import owner_of
from r1_operator.plan.placement.node_parsing import add_pod, read_node
from r1_operator.plan.placement.schedulable import NODES_PENDING, Node

BOUND_PODS = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
"""Field selector of the pods that use resources of a node."""

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 15.0
STALE_SECONDS = 60.0
FORBIDDEN_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """Nodes with their free resources, and the number of bound pods of each R1Inference.

    Both come from one listing. A replica that is bound later is in neither, so that the sum of free
    capacity and bound replicas stays correct until the next listing.
    """

    nodes: tuple[Node, ...]
    placed: Mapping[Key, int]


class Nodes:
    """The latest snapshot of the nodes; `latest` is safe anywhere on the loop."""

    def __init__(self, api: Api, *, clock: Callable[[], float] | None = None) -> None:
        self._api = api
        self._clock = clock
        self._snapshot: NodeSnapshot | Unavailable = NODES_PENDING
        self._at = -math.inf
        self._due = -math.inf
        self._task: asyncio.Task[None] | None = None

    def latest(self) -> NodeSnapshot | Unavailable:
        """Return the latest snapshot; start a listing in the background if one is due."""
        now = self._time()
        if self._task is None and now >= self._due:
            self._due = now + PERIOD_SECONDS
            self._task = asyncio.create_task(self.refresh())
            self._task.add_done_callback(self._done)
        if isinstance(self._snapshot, Unavailable) or now - self._at <= STALE_SECONDS:
            return self._snapshot
        # After a pause without requests, or while the API server does not answer.
        return NODES_PENDING if self._task is not None else self._stale(now)

    async def refresh(self) -> None:
        """List nodes and bound pods once, and store the free capacity."""
        try:
            self._snapshot = await self._list()
            self._at = self._time()
        except KubeApiError as error:
            if isinstance(error, RequestRefused) and error.status in (401, 403):
                self._due = self._time() + FORBIDDEN_RETRY_SECONDS
                self._snapshot = Unavailable(
                    "NodesForbidden",
                    "The operator is not allowed to list nodes and pods: set the chart value "
                    f"operator.readNodes to true ({error}).",
                )
                return
            logger.warning("nodes were not listed, free capacity is not updated: %s", error)
            if isinstance(self._snapshot, Unavailable):
                self._snapshot = Unavailable("NodesNotRead", f"The nodes were not listed: {error}.")

    async def close(self) -> None:
        """Cancel a running listing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _list(self) -> NodeSnapshot:
        used: dict[str, dict[str, Fraction]] = {}
        placed: Counter[Key] = Counter()
        async for page in self._api.list_pages(POD, field_selector=BOUND_PODS):
            for pod in page["items"]:
                add_pod(used, pod)
                owner = owner_of(pod)
                if owner is not None and not pod["metadata"].get("deletionTimestamp"):
                    placed[owner] += 1
        nodes: list[Node] = []
        async for page in self._api.list_pages(NODE):
            nodes += [
                read_node(one, used.get(one["metadata"]["name"], {})) for one in page["items"]
            ]
        return NodeSnapshot(tuple(nodes), placed)

    def _stale(self, now: float) -> Unavailable:
        return Unavailable("StaleNodes", f"The nodes were last listed {now - self._at:.0f} s ago.")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "nodes were not listed, free capacity is not updated", exc_info=task.exception()
            )

    def _time(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()
