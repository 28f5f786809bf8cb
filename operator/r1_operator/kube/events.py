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

_LONGEST_NOTE = 1024  # the API's own limit


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
        self._told: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._recent: dict[str, list[float]] = {}

    def tell(self, notice: EventSpec) -> None:
        """Queue a notice, unless it was told lately or there are too many."""
        now = self._clock()
        self._forget_before(now - self._quiet)
        mark = (notice.uid, notice.reason, notice.note)
        recent = self._recent.setdefault(notice.uid, [])
        if mark in self._told or len(recent) >= self._burst or self._queue.full():
            return
        self._told[mark] = now
        recent.append(now)
        self._queue.put_nowait(notice)

    async def run(self) -> None:
        """Write notices for ever."""
        while True:
            notice = await self._queue.get()
            try:
                await self._api.create(EVENT, notice.key.namespace, self._manifest(notice))
            except KubeApiError as error:
                logger.warning(
                    "event %s about %s not written: %s", notice.reason, notice.key, error
                )
            except Exception:  # one notice that cannot be written must not stop the others
                logger.exception("event %s about %s not written", notice.reason, notice.key)

    def _forget_before(self, moment: float) -> None:
        while self._told:
            mark, at = next(iter(self._told.items()))
            if at > moment:
                break
            del self._told[mark]
            times = self._recent.get(mark[0], [])
            times[:] = [t for t in times if t > moment]
            if not times:
                self._recent.pop(mark[0], None)

    def _manifest(self, notice: EventSpec) -> Json:
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {
                "name": f"{notice.key.name}.{uuid.uuid4().hex[:16]}",
                "namespace": notice.key.namespace,
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"deepseek.ai/{FIELD_MANAGER}",
            "reportingInstance": self._identity[:128],
            "action": notice.action,
            "reason": notice.reason,
            "note": notice.note[:_LONGEST_NOTE],
            "type": "Warning" if notice.warning else "Normal",
            "regarding": {
                "apiVersion": notice.kind.api_version,
                "kind": notice.kind.name,
                "namespace": notice.key.namespace,
                "name": notice.key.name,
                "uid": notice.uid,
            },
        }
