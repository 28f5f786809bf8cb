"""Events on ConfigMaps with an invalid route, shown by ``kubectl describe``.

Best effort: a bounded queue, one Event per problem; a failed creation is only logged.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import UTC, datetime

import aiohttp

from r1_common.kube.access import KubeAccess
from r1_common.kube.list_watch import KubeObject

logger = logging.getLogger(__name__)

QUEUED_EVENTS = 256
NOTE_CHARACTERS = 1000  # the API server allows 1024
REQUEST_SECONDS = 10.0


class InvalidRouteEvents:
    """Creates Warning Events of reason ``InvalidRoute`` (``events.k8s.io/v1``)."""

    def __init__(self, session: aiohttp.ClientSession, access: KubeAccess) -> None:
        self._session = session
        self._access = access
        self._queue: asyncio.Queue[tuple[str, dict[str, object]]] = asyncio.Queue(QUEUED_EVENTS)

    def report(self, item: KubeObject, problem: str) -> None:
        """Queue an Event about the ConfigMap; dropped when the queue is full."""
        metadata = item["metadata"]
        event = build_event(metadata, problem, datetime.now(UTC))
        if not self._queue.full():
            self._queue.put_nowait((str(metadata.get("namespace") or "default"), event))

    async def run(self) -> None:
        """Create the queued Events, without end."""
        while True:
            namespace, event = await self._queue.get()
            try:
                async with self._session.post(
                    f"{self._access.url}/apis/events.k8s.io/v1/namespaces/{namespace}/events",
                    json=event,
                    headers=await self._access.headers(),
                    ssl=self._access.tls,
                    timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
                ) as response:
                    if response.status >= 300:
                        logger.info(
                            "cannot create an Event in namespace %s: HTTP %d",
                            namespace,
                            response.status,
                        )
            except (aiohttp.ClientError, OSError, ValueError) as error:
                logger.info(
                    "cannot create an Event in namespace %s: %s",
                    namespace,
                    str(error) or type(error).__name__,
                )


def build_event(metadata: KubeObject, problem: str, at: datetime) -> dict[str, object]:
    """The Event about the ConfigMap with this ``metadata``."""
    note = problem.encode("utf-8", "replace").decode()[:NOTE_CHARACTERS]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"r1-gateway-{uuid.uuid4().hex}",
            "namespace": metadata.get("namespace"),
        },
        "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "r1-gateway",
        "reportingInstance": "r1-gateway",
        "action": "ReadRoute",
        "reason": "InvalidRoute",
        "type": "Warning",
        "note": note,
        "regarding": {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "namespace": metadata.get("namespace"),
            "name": metadata.get("name"),
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        },
    }
