"""Reflector of ServiceMonitors, which runs while the cluster serves their API.

The operator checks at the start and once per period whether the API is served and permitted. While it
is, a reflector watches the ServiceMonitors like other children, so that an external change is repaired
at once.
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
    """Tracks whether ServiceMonitors are available, and runs their reflector."""

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
        """`on_change` is called when the API appears or disappears, to enqueue every resource."""
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
        """Whether the API is served, permitted and enabled."""
        return self._served.is_set()

    async def check(self) -> None:
        """Check the API once."""
        if not self._enabled:
            return
        try:
            served = await self._is_served()
        except KubeApiError as error:
            logger.warning("availability of the ServiceMonitor API is unknown: %s", error)
            return
        if served == self.served:
            return
        (self._served.set if served else self._served.clear)()
        self._on_change()

    async def run(self) -> None:
        """Check once per period and run the reflector until cancelled; call `check` before."""
        try:
            while True:
                if self.served and self._reflector is None:
                    self._reflector = asyncio.create_task(self._new_reflector().run())
                elif not self.served and self._reflector is not None:
                    await self._stop()
                await self._pause()
                if self._reflector is not None and self._reflector.done():
                    self._reflector.result()  # a reflector ends only with an error: raise it
                await self.check()
        finally:
            await self._stop()

    async def _pause(self) -> None:
        """Wait for one period, or until the API appears."""
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
        """Whether the API is served and permitted; 403 counts as not served.

        Raises:
            KubeApiError: unknown; 401 concerns the credential, not the kind.
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
