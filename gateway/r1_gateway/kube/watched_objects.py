"""A local copy of selected objects of the API server, kept by list and watch.

The copy keeps its last state while the server is unreachable. Objects that were deleted during a gap
are reported as deleted after the next listing.

An object of an unexpected shape, or one that ``on_change`` fails on, is logged by name, counted in
``errors`` and ignored; the others are applied.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from r1_common.kube.access import KubeAccess
from r1_common.kube.list_watch import (
    ABSENT,
    InvalidEvent,
    KubeObject,
    ListWatch,
    jittered_pause,
    watch_query,
)
from r1_common.untrusted_json import convert_errors, parse_json

logger = logging.getLogger(__name__)

PAGE = 500
WATCH_SECONDS = 290
SILENCE_SECONDS = WATCH_SECONDS + 30
LIST_BYTES = 256 << 20


class InvalidObject(ValueError):
    """An object without the shape of the Kubernetes API."""


class WatchedObjects:
    """Local copy of the objects at ``path`` that match ``selector``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        access: KubeAccess,
        path: str,
        selector: str,
        on_change: Callable[[str, KubeObject | None], None],
        *,
        pause: Callable[[int], float] = jittered_pause,
    ) -> None:
        self.path = path
        self.synced = False
        self._invalid_objects = 0
        self._session = session
        self._access = access
        self._selector = selector
        self._on_change = on_change
        self._known: set[str] = set()
        self._listed: set[str] = set()
        self.list_watch = ListWatch(self, self, path, pause=pause)

    @property
    def errors(self) -> int:
        """Invalid objects, lists and events since the start."""
        return self._invalid_objects + self.list_watch.invalid

    async def run(self) -> None:
        """List and watch until cancelled."""
        await self.list_watch.run()

    # -- requests --------------------------------------------------------------------------------

    async def list_pages(self) -> AsyncIterator[KubeObject]:
        """The pages of a listing."""
        token = ""
        while True:
            query = {"labelSelector": self._selector, "limit": str(PAGE)}
            if token:
                query["continue"] = token
            async with self._session.get(
                self._access.url + self.path,
                params=query,
                headers=await self._access.headers(),
                ssl=self._access.tls,
                timeout=aiohttp.ClientTimeout(total=60),
            ) as response:
                response.raise_for_status()
                text = await response.read()
            with convert_errors(InvalidEvent, f"a list of {self.path}"):
                page: KubeObject = parse_json(text, max_bytes=LIST_BYTES)
                token = page["metadata"].get("continue") or ""
                if not isinstance(token, str):
                    raise InvalidEvent("metadata.continue must be a string")
            yield page
            if not token:
                return

    async def open_watch(self, version: str) -> aiohttp.ClientResponse:
        """The response of a watch from ``version``."""
        return await self._session.get(
            self._access.url + self.path,
            params=watch_query(self._selector, version, WATCH_SECONDS),
            headers=await self._access.headers(),
            ssl=self._access.tls,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS),
            raise_for_status=True,
        )

    # -- objects ---------------------------------------------------------------------------------

    def begin_list(self) -> None:
        """A listing begins."""
        self._listed = set()

    def add_page(self, page: KubeObject) -> None:
        """Apply the objects of a page."""
        for item in page["items"]:
            key = self._name(item)
            if key is not None:
                self._listed.add(key)
                self._known.add(key)
                self._deliver(key, item)

    def end_list(self) -> None:
        """Report the objects that the listing does not have as deleted."""
        for key in self._known - self._listed:
            self._deliver(key, None)
        self._known = self._listed
        self.synced = True

    def handle_event(self, event_type: Any, obj: Any) -> None:
        """Apply one event."""
        if event_type is None or obj is ABSENT:
            raise InvalidEvent("an event lacks its type or object")
        key = self._name(obj)
        if key is None:
            return
        if event_type == "DELETED":
            self._known.discard(key)
            self._deliver(key, None)
        else:
            self._known.add(key)
            self._deliver(key, obj)

    def _name(self, item: object) -> str | None:
        try:
            return _key(item)
        except InvalidObject as error:
            self._invalid_objects += 1
            logger.error("%s: ignoring an invalid object: %s", self.path, error)
            return None

    def _deliver(self, key: str, item: KubeObject | None) -> None:
        try:
            self._on_change(key, item)
        except Exception:
            self._invalid_objects += 1
            logger.exception("%s: cannot apply %s", self.path, key)


def _key(item: object) -> str:
    """``namespace/name`` of an object.

    Raises:
        InvalidObject: no name.
    """
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        raise InvalidObject("metadata is missing")
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        raise InvalidObject("metadata.name is missing")
    return f"{namespace}/{name}"
