"""Kubernetes Events (`events.k8s.io/v1`) with deduplication and a rate limit.

Conditions hold the state; Events are informational. An Event that cannot be written is logged and
dropped, and never delays a reconcile. An Event with the same object, reason and note is written at
most once in `quiet_seconds`, and an object gets at most `burst` Events in that time.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from r1_operator.kube.client import FIELD_MANAGER, Api, KubeApiError
from r1_operator.kube.kinds import EVENT, R1INFERENCE, Json, Key, Kind

logger = logging.getLogger(__name__)

_MAX_NOTE_LENGTH = 1024  # limit of the Kubernetes API


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One Event: `reason` and `action` are stable CamelCase words, `note` is a sentence."""

    key: Key
    uid: str
    reason: str
    note: str
    action: str = "Reconcile"
    warning: bool = False
    kind: Kind = R1INFERENCE


class EventWriter:
    """Writes Events from a bounded queue; `emit` is safe anywhere on the loop, `run` runs once."""

    def __init__(
        self,
        api: Api,
        *,
        identity: str,
        quiet_seconds: float = 600.0,
        burst: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._identity = identity
        self._quiet = quiet_seconds
        self._burst = burst
        self._clock = clock
        self._queue: asyncio.Queue[EventSpec] = asyncio.Queue(maxsize=1000)
        self._emitted_at: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._recent: dict[str, list[float]] = {}

    def emit(self, event: EventSpec) -> None:
        """Queue an Event, unless it is a duplicate or exceeds the rate limit."""
        now = self._clock()
        self._expire_before(now - self._quiet)
        identity = (event.uid, event.reason, event.note)
        recent = self._recent.setdefault(event.uid, [])
        if identity in self._emitted_at or len(recent) >= self._burst or self._queue.full():
            return
        self._emitted_at[identity] = now
        recent.append(now)
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Write queued Events until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._api.create(EVENT, event.key.namespace, self._manifest(event))
            except KubeApiError as error:
                logger.warning("Event %s of %s was not written: %s", event.reason, event.key, error)
            except Exception:  # one Event that cannot be written must not stop the others
                logger.exception("Event %s of %s was not written", event.reason, event.key)

    def _expire_before(self, moment: float) -> None:
        while self._emitted_at:
            identity, at = next(iter(self._emitted_at.items()))
            if at > moment:
                break
            del self._emitted_at[identity]
            times = self._recent.get(identity[0], [])
            times[:] = [t for t in times if t > moment]
            if not times:
                self._recent.pop(identity[0], None)

    def _manifest(self, event: EventSpec) -> Json:
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{event.key.name}.{uuid.uuid4().hex[:16]}",
                "namespace": event.key.namespace,
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"deepseek.ai/{FIELD_MANAGER}",
            "reportingInstance": self._identity[:128],
            "action": event.action,
            "reason": event.reason,
            "note": event.note[:_MAX_NOTE_LENGTH],
            "type": "Warning" if event.warning else "Normal",
            "regarding": {
                "apiVersion": event.kind.api_version,
                "kind": event.kind.name,
                "namespace": event.key.namespace,
                "name": event.key.name,
                "uid": event.uid,
            },
        }
