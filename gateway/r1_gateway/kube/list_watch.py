"""List, then watch: a mirror of some objects of the API server, kept by its events.

The mirror keeps its last view while the server is away.  A watch that ends is taken up where it
stopped; when the server has forgotten that point (410 Gone) everything is listed again, and what
was deleted meanwhile is reported as deleted.

One object of an unexpected shape, or one that ``on_change`` fails on, is logged by name, counted in
``errors`` and left out; the others are mirrored.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from r1_common.kube.access import KubeAccess
from r1_common.untrusted_json import convert_errors, parse_json

logger = logging.getLogger(__name__)

KubeObject = dict[str, Any]
PAGE = 500
WATCH_SECONDS = 290
SILENCE_SECONDS = WATCH_SECONDS + 30
LONGEST_PAUSE_SECONDS = 10.0
LINE_BYTES = 16 << 20  # etcd stores at most 1.5 MiB per object by default
LIST_BYTES = 256 << 20


class InvalidObject(ValueError):
    """An object, or an event, that is not shaped as the API server's are."""


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
        self.errors = 0
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
                if isinstance(error, InvalidObject):  # the same point would bring the same event
                    self.errors += 1
                    self._version = ""
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
                text = await answer.read()
            with convert_errors(InvalidObject, f"a list of {self.path}"):
                page = parse_json(text, max_bytes=LIST_BYTES)
                items += page["items"] or []  # without items it is no list: nothing was deleted
                token = _text(page["metadata"].get("continue"))
                version = _text(page["metadata"].get("resourceVersion"))
            if not token:
                break
        seen = set()
        for item in items:
            key = self._name(item)
            if key is not None:
                seen.add(key)
                self._deliver(key, item)
        for key in self._known - seen:
            self._deliver(key, None)
        self._known = seen
        self._version = version
        self.synced = True

    def _name(self, item: object) -> str | None:
        try:
            return _key(item)
        except InvalidObject as error:
            self.errors += 1
            logger.error("%s: an object was left out: %s", self.path, error)
            return None

    def _deliver(self, key: str, item: KubeObject | None) -> None:
        try:
            self._on_change(key, item)
        except Exception:
            self.errors += 1
            logger.exception("%s: %s could not be used", self.path, key)

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
            if answer.status >= 500:  # 504 for a version of the future, as after a restore of etcd
                self._version = ""
            answer.raise_for_status()
            buffer = b""
            try:
                async for data in answer.content.iter_any():
                    buffer += data
                    *lines, buffer = buffer.split(b"\n")
                    if len(buffer) > LINE_BYTES:
                        raise InvalidObject(f"an event has more than {LINE_BYTES} bytes")
                    for line in lines:
                        if line:
                            with convert_errors(InvalidObject, "an event"):
                                event = parse_json(line)
                                kind, item = event["type"], event["object"]
                            yield kind, item
            except (asyncio.CancelledError, GeneratorExit):
                # Nobody will be there to wait for the other side of a TLS goodbye.
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()
                raise

    def _take(self, kind: str, item: KubeObject) -> None:
        if kind == "ERROR":
            if isinstance(item, dict) and item.get("code") == 410:
                raise Gone
            self._version = ""  # it may never be accepted, as after a restore of etcd: list again
            with convert_errors(InvalidObject, "an event"):
                raise InvalidObject(f"the watch ended: {str(item)[:500]}")
        metadata = item.get("metadata") if isinstance(item, dict) else None
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if isinstance(version, str) and version:
            self._version = version
        if kind == "BOOKMARK":
            return
        key = self._name(item)
        if key is None:
            return
        if kind == "DELETED":
            self._known.discard(key)
            self._deliver(key, None)
        else:
            self._known.add(key)
            self._deliver(key, item)


def _text(value: object) -> str:
    """A string, empty where there is none.

    Raises:
        InvalidObject: it is something else.
    """
    if value is not None and not isinstance(value, str):
        raise InvalidObject("metadata must hold strings")
    return value or ""


def _key(item: object) -> str:
    """``namespace/name`` of an object.

    Raises:
        InvalidObject: it has no name.
    """
    metadata = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(metadata, dict):
        raise InvalidObject("it has no metadata")
    name, namespace = metadata.get("name"), metadata.get("namespace") or ""
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        raise InvalidObject("it has no metadata.name")
    return f"{namespace}/{name}"
