"""What is free on the cluster's nodes, looked at only while a resource asks for it.

A decision never waits: it takes the latest look there is, and the next one begins in the background
when it is due. Nodes and pods are listed in pages that are reduced on arrival, so that nothing of a
pod is kept but its part of a sum. Nobody asks: nothing is listed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from r1_operator.kube.client import Api, KubeApiError, RequestRefused
from r1_operator.kube.kinds import NODE, POD, Key
from r1_operator.kube.store import owner_of
from r1_operator.plan.placement.node_parsing import add_pod, read_node
from r1_operator.plan.placement.schedulable import NODES_PENDING, Node
from r1_operator.plan.unavailable import Unavailable

PLACED = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"
"""Selects the pods that hold something on a node."""

logger = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
STALE_SECONDS = 60.0
REFUSED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """The nodes with what was free on each, and the pods of each resource that had a place then.

    Both come from one listing: a replica that found its place later is in neither, and the sum of
    room and placed replicas stays right until the next look.
    """

    nodes: tuple[Node, ...]
    placed: Mapping[Key, int]


class Nodes:
    """The latest look at the nodes; `latest` may be called from anywhere on the loop."""

    def __init__(self, api: Api, *, clock: Callable[[], float] | None = None) -> None:
        self._api = api
        self._clock = clock
        self._found: NodeSnapshot | Unavailable = NODES_PENDING
        self._at = -math.inf
        self._due = -math.inf
        self._task: asyncio.Task[None] | None = None

    def latest(self) -> NodeSnapshot | Unavailable:
        """The latest look, at once; looks again in the background when that is due."""
        now = self._time()
        if self._task is None and now >= self._due:
            self._due = now + EVERY_SECONDS
            self._task = asyncio.create_task(self.look())
            self._task.add_done_callback(self._done)
        if isinstance(self._found, Unavailable) or now - self._at <= STALE_SECONDS:
            return self._found
        # After a pause in which nobody asked, or while the API server does not answer.
        return NODES_PENDING if self._task is not None else self._silent(now)

    async def look(self) -> None:
        """List nodes and placed pods once, and keep what is free."""
        try:
            self._found = await self._list()
            self._at = self._time()
        except KubeApiError as error:
            if isinstance(error, RequestRefused) and error.status in (401, 403):
                self._due = self._time() + REFUSED_SECONDS
                self._found = Unavailable(
                    "MayNotSeeNodes",
                    "The operator may not list nodes and pods: set operator.readNodes of the chart "
                    f"({error}).",
                )
                return
            logger.warning("free capacity is not known: %s", error)
            if isinstance(self._found, Unavailable):
                self._found = Unavailable("NodesNotRead", f"The nodes were not read: {error}.")

    async def close(self) -> None:
        """Drop a look that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _list(self) -> NodeSnapshot:
        used: dict[str, dict[str, Fraction]] = {}
        placed: Counter[Key] = Counter()
        async for page in self._api.list_pages(POD, field_selector=PLACED):
            for pod in page["items"]:
                add_pod(used, pod)
                owner = owner_of(pod)
                if owner is not None and not pod["metadata"].get("deletionTimestamp"):
                    placed[owner] += 1
        found: list[Node] = []
        async for page in self._api.list_pages(NODE):
            found += [
                read_node(one, used.get(one["metadata"]["name"], {})) for one in page["items"]
            ]
        return NodeSnapshot(tuple(found), placed)

    def _silent(self, now: float) -> Unavailable:
        return Unavailable("StaleNodes", f"The nodes were last read {now - self._at:.0f} s ago.")

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            logger.error("free capacity is not known", exc_info=task.exception())

    def _time(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()
