"""Events for people: `events.k8s.io/v1`, with the plan's reasons, without repeating themselves.

Events are help, not truth: conditions are. So one that cannot be written is logged and dropped, and
writing them never holds up a reconcile. The same reason with the same words about the same object is
written at most once in `quiet_seconds`; a chatty object is bounded by `burst` in that time.
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

_MAX_NOTE_LENGTH = 1024  # the API's own limit


@dataclass(frozen=True, slots=True)
class EventSpec:
    """One thing to tell: `reason` and `action` are CamelCase and stable, `note` is a sentence."""

    key: Key
    uid: str
    reason: str
    note: str
    action: str = "Reconcile"
    warning: bool = False
    kind: Kind = R1INFERENCE


class EventWriter:
    """Writes notices from a bounded queue; call `tell` from anywhere, run `run` once."""

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
        """Queue a event, unless it was told lately or there are too many."""
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
        """Write notices for ever."""
        while True:
            event = await self._queue.get()
            try:
                await self._api.create(EVENT, event.key.namespace, self._manifest(event))
            except KubeApiError as error:
                logger.warning("event %s about %s not written: %s", event.reason, event.key, error)
            except Exception:  # one event that cannot be written must not stop the others
                logger.exception("event %s about %s not written", event.reason, event.key)

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
