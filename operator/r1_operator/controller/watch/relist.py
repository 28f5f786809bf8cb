"""A second look at the cluster, so that a lost watch event costs one period and not for ever.

A listing of names and resourceVersions (metadata only, in pages) is compared with the view. What
the view has and the listing has not is gone; what the view has older, or not at all, is given a few
seconds to arrive by itself and is then fetched. Of kinds whose watch does not tell when its first
listing is over, the first round comes at once and does one thing more: once the view holds everything
that was listed, the view is complete, and only then does anything get planned.
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
from r1_operator.kube.kinds import R1INFERENCE, Key, Kind, key_of
from r1_operator.kube.store import PodStore, Store, version_of
from r1_operator.metrics import OperatorMetrics

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0


class Relist:
    """Compares views with listings, at the start and then every period."""

    def __init__(
        self,
        api: Api,
        intake: EventHandler,
        *,
        kinds: Callable[[], Sequence[Kind]],
        at_once: Sequence[Kind],
        namespaces: Sequence[str],
        liveness: Liveness,
        metrics: OperatorMetrics,
        period_seconds: float,
        rng: random.Random | None = None,
    ) -> None:
        self._api = api
        self._intake = intake
        self._views = intake.views
        self._kinds = kinds
        self._at_once = at_once
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._liveness = liveness
        self._metrics = metrics
        self._period = period_seconds
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)

    async def run(self) -> None:
        """Complete the views of `at_once`; then look at all kinds once a period, for ever."""
        while not all(self._views.of(kind).complete.is_set() for kind in self._at_once):
            await self._rounds(self._at_once)
            await asyncio.sleep(1.0)
        while True:
            await asyncio.sleep(self._period * self._rng.uniform(0.9, 1.1))
            await self._rounds(self._kinds())

    async def _rounds(self, kinds: Sequence[Kind]) -> None:
        for kind in kinds:  # one after the other: pages are the largest things in memory
            await self._round(kind)
        self._liveness.beat()

    async def _round(self, kind: Kind) -> None:
        try:
            await self.look(kind)
        except KubeApiError as error:
            logger.warning("resync of %s failed: %s", kind.plural, error)
        except Exception:  # a listing of odd shape must not end the looks at the other kinds
            logger.exception("resync of %s failed", kind.plural)

    async def look(self, kind: Kind) -> int:
        """Compare one kind once; the number of objects that the watch had missed."""
        view = self._views.of(kind)
        listed, as_of = await self._listed(kind)
        self._intake.drop_gone(kind, {key: uid for key, (uid, _) in listed.items()}, as_of)
        behind = await self._wait_for(view, listed)
        missed = [key for key in behind if await self._fetch(kind, key)]
        if missed:
            logger.warning(
                "the watch had missed %d %s, such as %s", len(missed), kind.plural, missed[0]
            )
            self._metrics.resync_repairs.labels(kind.name).inc(len(missed))
            self._liveness.missed(kind)
        view.complete.set()
        return len(missed)

    async def _listed(self, kind: Kind) -> tuple[dict[Key, tuple[str, int]], int]:
        selector = "" if kind == R1INFERENCE else Label.RESOURCE
        found: dict[Key, tuple[str, int]] = {}
        as_of = 2**63
        for namespace in self._namespaces:
            try:
                async for page in self._api.list_pages(
                    kind, namespace, label_selector=selector, metadata_only=True
                ):
                    as_of = min(as_of, version_of(page))
                    for item in page["items"]:
                        found[key_of(item)] = (item["metadata"]["uid"], version_of(item))
            except NotFound:  # the kind itself is not installed here: there are none
                continue
        return found, as_of

    async def _wait_for(
        self, view: Store | PodStore, listed: dict[Key, tuple[str, int]]
    ) -> list[Key]:
        """What is still behind the listing when nothing more has arrived for the grace time."""
        behind = list(listed)
        quiet_since = asyncio.get_running_loop().time()
        while True:
            still = [key for key in behind if view.version(key) < listed[key][1]]
            now = asyncio.get_running_loop().time()
            if len(still) < len(behind):
                quiet_since = now
            behind = still
            if not behind or now - quiet_since > _GRACE_SECONDS:
                return behind
            await asyncio.sleep(0.2)

    async def _fetch(self, kind: Kind, key: Key) -> bool:
        """Whether the object is there and said something new."""
        obj = await self._api.get(kind, *key)
        return obj is not None and self._intake.found(kind, obj)
