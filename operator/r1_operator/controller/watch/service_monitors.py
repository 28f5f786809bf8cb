"""ServiceMonitors: their API may come and go, and with it their mirror.

Whether it is served (and we may use it) is asked at the start and once a period. While it is, they are
mirrored as the other children are, so that a change from outside is seen at once and not by the next
resync.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from r1_operator.api.names import Label
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.reflector import Reflector
from r1_operator.kube.client import Api, KubeApiError, NotFound, RequestRefused
from r1_operator.kube.kinds import SERVICE_MONITOR

logger = logging.getLogger(__name__)


class ServiceMonitors:
    """Whether they can be made, and their mirror while they can."""

    def __init__(
        self,
        api: Api,
        handler: EventHandler,
        *,
        enabled: bool,
        namespaces: Sequence[str],
        period_seconds: float,
        on_change: Callable[[], None],
    ) -> None:
        """`changed` is called when the API came or went: every resource has to be looked at."""
        self._api = api
        self._handler = handler
        self._enabled = enabled
        self._namespaces = tuple(namespaces)
        self._period = period_seconds
        self._on_change = on_change
        self._served = asyncio.Event()
        self._reflector: asyncio.Task[None] | None = None

    @property
    def served(self) -> bool:
        """Whether there is such an API, we may use it, and the site wants it."""
        return self._served.is_set()

    async def check(self) -> None:
        """Ask once."""
        if not self._enabled:
            return
        try:
            served = await self._is_served()
        except KubeApiError as error:
            logger.warning("is there a ServiceMonitor API? %s", error)
            return
        if served == self.served:
            return
        (self._served.set if served else self._served.clear)()
        self._on_change()

    async def run(self) -> None:
        """Look once a period and mirror meanwhile, for ever; `look` once before."""
        try:
            while True:
                if self.served and self._reflector is None:
                    self._reflector = asyncio.create_task(self._new_reflector().run())
                elif not self.served and self._reflector is not None:
                    await self._stop()
                await self._pause()
                if self._reflector is not None and self._reflector.done():
                    self._reflector.result()  # it runs for ever: whatever ended it is raised
                await self.check()
        finally:
            await self._stop()

    async def _pause(self) -> None:
        """A period, or less where the API has come meanwhile and is not mirrored yet."""
        with contextlib.suppress(TimeoutError):
            if self._reflector is None:
                await asyncio.wait_for(self._served.wait(), self._period)
            else:
                await asyncio.sleep(self._period)

    def _new_reflector(self) -> Reflector:
        return Reflector(
            self._api,
            self._handler,
            SERVICE_MONITOR,
            selector=Label.RESOURCE,
            namespaces=self._namespaces,
        )

    async def _stop(self) -> None:
        if self._reflector is not None:
            self._reflector.cancel()
            await asyncio.gather(self._reflector, return_exceptions=True)
            self._reflector = None

    async def _is_served(self) -> bool:
        """Rights that lack (403) are no reason to fail.

        Raises:
            ApiError: the server did not say; 401 is about our credential and not about the kind.
        """
        namespace = self._namespaces[0] if self._namespaces else None
        try:
            async for _ in self._api.list_pages(SERVICE_MONITOR, namespace, page_size=1):
                break
        except NotFound:
            return False
        except RequestRefused as error:
            if error.status != 403:
                raise
            return False
        return True
