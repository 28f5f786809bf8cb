"""Periodic relist, which repairs the stores after lost watch events.

A listing of names and resourceVersions (metadata only, in pages) is compared with the store. Objects
that are missing in the listing are removed. Objects that are missing or older in the store get a few
seconds to arrive by the watch, then they are read. For kinds whose watch does not report the end of its
first listing, the first relist runs at the start and marks the store as complete.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from r1_operator.api.names import Label
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.kube.client import Api, KubeApiError, NotFound
from r1_operator.kube.kinds import CUSTOM_RESOURCES, Key, Kind, key_of
from r1_operator.kube.store import PodStore, Store, version_of
from r1_operator.metrics import OperatorMetrics

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = 8.0


class Relist:
    """Compares the stores with listings, at the start and then once per period."""

    def __init__(
        self,
        api: Api,
        handler_of: Callable[[Kind], EventHandler],
        *,
        kinds: Callable[[], Sequence[Kind]],
        initial_kinds: Sequence[Kind],
        namespaces: Sequence[str],
        liveness: Liveness,
        metrics: OperatorMetrics,
        period_seconds: float,
        rng: random.Random | None = None,
    ) -> None:
        self._api = api
        self._handler_of = handler_of
        self._kinds = kinds
        self._initial_kinds = initial_kinds
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._liveness = liveness
        self._metrics = metrics
        self._period = period_seconds
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)

    async def run(self) -> None:
        """Complete the stores of `initial_kinds`, and relist all kinds once per period."""
        async with asyncio.TaskGroup() as group:
            for kind in self._initial_kinds:  # one that cannot be listed must not delay another
                group.create_task(self._complete(kind))
            while True:
                await asyncio.sleep(self._period * self._rng.uniform(0.9, 1.1))
                for kind in self._kinds():  # sequentially, because pages need the most memory
                    await self._relist_logged(kind)
                self._liveness.heartbeat()

    async def _complete(self, kind: Kind) -> None:
        """Relist one kind until its store is complete."""
        pause = _RETRY_SECONDS
        while True:
            await self._relist_logged(kind)
            self._liveness.heartbeat()
            if self._handler_of(kind).stores.of(kind).complete.is_set():
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    async def _relist_logged(self, kind: Kind) -> None:
        try:
            await self.relist(kind)
        except KubeApiError as error:
            logger.warning("relist of %s failed: %s", kind.plural, error)
        except Exception:  # a malformed listing must not end the relist of the other kinds
            logger.exception("relist of %s failed", kind.plural)

    async def relist(self, kind: Kind) -> int:
        """Relist one kind; the number of objects that the watch had missed."""
        handler = self._handler_of(kind)
        store = handler.stores.of(kind)
        listed, as_of = await self._list(kind)
        handler.delete_missing(kind, {key: uid for key, (uid, _) in listed.items()}, as_of)
        outdated = await self._wait_for_watch(store, listed)
        repaired = [key for key in outdated if await self._fetch(kind, key)]
        if repaired:
            logger.warning(
                "relist repaired %d %s that the watch had missed, such as %s",
                len(repaired),
                kind.plural,
                repaired[0],
            )
            self._metrics.relist_repairs.labels(kind.name).inc(len(repaired))
            self._liveness.relist_repaired(kind)
        store.complete.set()
        return len(repaired)

    async def _list(self, kind: Kind) -> tuple[dict[Key, tuple[str, int]], int]:
        selector = "" if kind in CUSTOM_RESOURCES else Label.RESOURCE
        listed: dict[Key, tuple[str, int]] = {}
        as_of = 2**63
        for namespace in self._namespaces:
            try:
                async for page in self._api.list_pages(
                    kind, namespace, label_selector=selector, metadata_only=True
                ):
                    as_of = min(as_of, version_of(page))
                    for item in page["items"]:
                        listed[key_of(item)] = (item["metadata"]["uid"], version_of(item))
            except NotFound:  # the CRD of the kind is not installed
                continue
        return listed, as_of

    async def _wait_for_watch(
        self, store: Store | PodStore, listed: dict[Key, tuple[str, int]]
    ) -> list[Key]:
        """The listed objects that the store still misses after a grace time without progress."""
        outdated = list(listed)
        last_progress = asyncio.get_running_loop().time()
        while True:
            remaining = [key for key in outdated if store.version(key) < listed[key][1]]
            now = asyncio.get_running_loop().time()
            if len(remaining) < len(outdated):
                last_progress = now
            outdated = remaining
            if not outdated or now - last_progress > _GRACE_SECONDS:
                return outdated
            await asyncio.sleep(0.2)

    async def _fetch(self, kind: Kind, key: Key) -> bool:
        """Read an object; whether it exists and is newer than the stored one."""
        obj = await self._api.get(kind, *key)
        return obj is not None and self._handler_of(kind).handle_object(kind, obj)
