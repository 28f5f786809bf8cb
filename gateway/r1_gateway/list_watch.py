"""List, then watch: a mirror of some objects of the API server, kept by its events.

The mirror keeps its last view while the server is away.  A watch that ends is taken up where it
stopped; when the server has forgotten that point (410 Gone) everything is listed again, and what
was deleted meanwhile is reported as deleted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from r1_gateway.kube_access import KubeAccess

logger = logging.getLogger(__name__)

KubeObject = dict[str, Any]
PAGE = 500
WATCH_SECONDS = 290
SILENCE_SECONDS = WATCH_SECONDS + 30
LONGEST_PAUSE_SECONDS = 10.0


class Gone(Exception):
    """The server has forgotten our resourceVersion: list again."""


class ListWatch:
    """Mirror of the objects at ``path`` that ``selector`` selects."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        access: KubeAccess,
        path: str,
        selector: str,
        on_change: Callable[[str, KubeObject | None], None],
        *,
        pause: Callable[[float], float] = lambda limit: random.uniform(limit / 2, limit),  # noqa: S311
    ) -> None:
        self.path = path
        self.synced = False
        self.lists = 0
        self._session = session
        self._access = access
        self._selector = selector
        self._on_change = on_change
        self._pause = pause
        self._known: set[str] = set()
        self._version = ""

    async def run(self) -> None:
        """Mirror for ever; errors are logged once per streak and retried with growing pauses."""
        limit = 0.25
        while True:
            try:
                if not self._version:
                    await self._list()
                    limit = 0.25
                async for kind, item in self._watch():
                    limit = 0.25
                    self._take(kind, item)
            except Gone:
                logger.info("%s: listing again", self.path)
                self._version = ""
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if limit <= 0.5:
                    logger.warning(
                        "%s: %s; keeping the last view and trying again",
                        self.path,
                        str(error) or type(error).__name__,
                    )
                await asyncio.sleep(self._pause(limit))
                limit = min(limit * 2, LONGEST_PAUSE_SECONDS)

    async def _list(self) -> None:
        items: list[KubeObject] = []
        token, version = "", ""
        self.lists += 1
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
            ) as answer:
                if answer.status == 410:
                    raise Gone
                answer.raise_for_status()
                page = await answer.json(content_type=None)
            items += page.get("items") or []
            token = page["metadata"].get("continue") or ""
            version = page["metadata"].get("resourceVersion") or ""
            if not token:
                break
        seen = set()
        for item in items:
            key = _key(item)
            seen.add(key)
            self._on_change(key, item)
        for key in self._known - seen:
            self._on_change(key, None)
        self._known = seen
        self._version = version
        self.synced = True

    async def _watch(self) -> AsyncIterator[tuple[str, KubeObject]]:
        query = {
            "labelSelector": self._selector,
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._session.get(
            self._access.url + self.path,
            params=query,
            headers=await self._access.headers(),
            ssl=self._access.tls,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_SECONDS),
        ) as answer:
            if answer.status == 410:
                raise Gone
            answer.raise_for_status()
            buffer = b""
            try:
                async for data in answer.content.iter_any():
                    buffer += data
                    *lines, buffer = buffer.split(b"\n")
                    for line in lines:
                        if line:
                            event = json.loads(line)
                            yield event["type"], event["object"]
            except (asyncio.CancelledError, GeneratorExit):
                # Nobody will be there to wait for the other side of a TLS goodbye.
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()
                raise

    def _take(self, kind: str, item: KubeObject) -> None:
        if kind == "ERROR":
            if item.get("code") == 410:
                raise Gone
            raise ValueError(f"the watch ended: {item.get('message')}")
        self._version = item["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        key = _key(item)
        if kind == "DELETED":
            self._known.discard(key)
            self._on_change(key, None)
        else:
            self._known.add(key)
            self._on_change(key, item)


def _key(item: KubeObject) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"
