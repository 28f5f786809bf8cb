"""List and watch: a local copy of selected objects of the API server.

The copy keeps its last state while the server is unreachable.  A watch that ends resumes where it
stopped.  When the server has dropped that resourceVersion (410 Gone), everything is listed again, and
objects that were deleted meanwhile are reported as deleted.

An object of an unexpected shape, or one that ``on_change`` fails on, is logged by name, counted in
``errors`` and ignored; the others are applied.
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
    """An object or event without the shape of the Kubernetes API."""


class Gone(Exception):
    """HTTP 410: the server has dropped the resourceVersion; list again."""


class ListWatch:
    """Local copy of the objects at ``path`` that match ``selector``."""

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
        """List and watch without end; errors are logged once per streak and retried with backoff."""
        limit = 0.25
        while True:
            try:
                if not self._version:
                    await self._list()
                    limit = 0.25
                async for kind, item in self._watch():
                    limit = 0.25
                    self._apply(kind, item)
            except Gone:
                logger.info("%s: resourceVersion expired (410 Gone), listing again", self.path)
                self._version = ""
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if isinstance(
                    error, InvalidObject
                ):  # a watch from the same version would get the same event
                    self.errors += 1
                    self._version = ""
                if limit <= 0.5:
                    logger.warning(
                        "%s: %s; keeping the last state and retrying",
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
            ) as response:
                if response.status == 410:
                    raise Gone
                response.raise_for_status()
                text = await response.read()
            with convert_errors(InvalidObject, f"a list of {self.path}"):
                page = parse_json(text, max_bytes=LIST_BYTES)
                items += (
                    page["items"] or []
                )  # a page without items is no list, so nothing counts as deleted
                token = _text(page["metadata"].get("continue"))
                version = _text(page["metadata"].get("resourceVersion"))
            if not token:
                break
        listed = set()
        for item in items:
            key = self._name(item)
            if key is not None:
                listed.add(key)
                self._deliver(key, item)
        for key in self._known - listed:
            self._deliver(key, None)
        self._known = listed
        self._version = version
        self.synced = True

    def _name(self, item: object) -> str | None:
        try:
            return _key(item)
        except InvalidObject as error:
            self.errors += 1
            logger.error("%s: ignoring an invalid object: %s", self.path, error)
            return None

    def _deliver(self, key: str, item: KubeObject | None) -> None:
        try:
            self._on_change(key, item)
        except Exception:
            self.errors += 1
            logger.exception("%s: cannot apply %s", self.path, key)

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
        ) as response:
            if response.status == 410:
                raise Gone
            if response.status >= 500:  # 504 for a future version, as after a restore of etcd
                self._version = ""
            response.raise_for_status()
            buffer = b""
            try:
                async for data in response.content.iter_any():
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
                # The task ends now, so it cannot wait for the TLS close of the server.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()
                raise

    def _apply(self, kind: str, item: KubeObject) -> None:
        if kind == "ERROR":
            if isinstance(item, dict) and item.get("code") == 410:
                raise Gone
            self._version = (
                ""  # the server may never accept it, as after a restore of etcd: list again
            )
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
    """A string; empty for None.

    Raises:
        InvalidObject: any other type.
    """
    if value is not None and not isinstance(value, str):
        raise InvalidObject("metadata must contain strings")
    return value or ""


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
