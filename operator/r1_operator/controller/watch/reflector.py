"""Reflector: list and watch one kind into its store, as in client-go.

Reflectors serve the kinds that the operator creates, at least four objects per resource. kopf runs a
queue and a task per object for handlers that wait. These handlers never wait, so a page of a listing is
stored in one call, at a fraction of the cost. A listing also has an end and shows deleted objects, which
the events of kopf do not.

An ended watch resumes from its last resourceVersion. If that version has expired (410), everything is
listed again. Other errors are retried with backoff, and the store stays unchanged. A malformed object is
logged and ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

import aiohttp
import orjson

from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.kube.client import Api, KubeApiError, RequestRefused, RetryPolicy
from r1_operator.kube.kinds import Json, Key, Kind, key_of
from r1_operator.kube.store import version_of

logger = logging.getLogger(__name__)

_BACKOFF: Final = RetryPolicy(base_seconds=0.25, cap_seconds=10.0)
_WATCH_SECONDS: Final = 600.0
_SILENT_SECONDS: Final = _WATCH_SECONDS + 30.0
_UNUSABLE_VERSION: Final = (400, 410)
"""Status codes for an expired or invalid resourceVersion: list again"""


class Reflector:
    """Fills the store of one kind, by a listing and a watch per namespace."""

    def __init__(
        self,
        api: Api,
        handler: EventHandler,
        kind: Kind,
        *,
        selector: str,
        namespaces: Sequence[str],
        rng: random.Random | None = None,
    ) -> None:
        """`selector` is a label selector; without namespaces all are watched."""
        self._api = api
        self._handler = handler
        self._kind = kind
        self._selector = selector
        self._namespaces: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._unlisted = set(self._namespaces)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)

    async def run(self) -> None:
        """Reflect until cancelled; the store is complete once every namespace is listed."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._list_and_watch(namespace))

    async def _list_and_watch(self, namespace: str | None) -> None:
        version, failures, last_logged = "", 0, ""
        while True:
            try:
                if not version:
                    version = await self._list(namespace)
                async with aclosing(self._watch_lines(namespace, version)) as lines:
                    async for line in lines:
                        version = self._handle_event(orjson.loads(line), version)
                        failures, last_logged = 0, ""
                # The watch ended normally. The pause protects a server that ends each watch at once.
                await asyncio.sleep(_BACKOFF.delay(1, None, self._rng))
            except Exception as error:  # a watch that ended would leave its store stale
                expected = isinstance(
                    error, KubeApiError | aiohttp.ClientError | OSError | ValueError
                )
                if not expected or getattr(error, "status", 0) in _UNUSABLE_VERSION:
                    version = ""
                message, failures = str(error) or type(error).__name__, failures + 1
                if message != last_logged:
                    last_logged = message
                    logger.log(
                        logging.WARNING if expected else logging.ERROR,
                        "watch of %s failed, retrying: %s",
                        self._kind.plural,
                        message,
                        exc_info=None if expected else error,
                    )
                await asyncio.sleep(_BACKOFF.delay(min(failures, 10), None, self._rng))

    async def _list(self, namespace: str | None) -> str:
        """List all objects into the store; the resourceVersion from which to watch."""
        uids: dict[Key, str] = {}
        first: Json = {}
        async for page in self._api.list_pages(
            self._kind, namespace, label_selector=self._selector
        ):
            first = first or page
            for obj in page["items"]:
                with contextlib.suppress(KeyError, TypeError, AttributeError):  # logged below
                    # A list has the kind once, an event in each object: use the same digest for both.
                    obj["apiVersion"], obj["kind"] = self._kind.api_version, self._kind.name
                    uids[key_of(obj)] = obj["metadata"].get("uid", "")
            self._handler.handle_page(self._kind, page["items"])
        as_of: str = first["metadata"]["resourceVersion"]
        self._handler.delete_missing(self._kind, uids, version_of(first), namespace)
        self._unlisted.discard(namespace)
        if not self._unlisted:
            self._handler.stores.of(self._kind).complete.set()
        return as_of

    async def _watch_lines(
        self, namespace: str | None, version: str
    ) -> AsyncGenerator[bytes, None]:
        """The lines of one watch until the server ends it."""
        response = await self._api.stream(
            self._kind.path(namespace),
            {
                "labelSelector": self._selector,
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": version,
                "timeoutSeconds": f"{_WATCH_SECONDS:.0f}",
            },
            silent_seconds=_SILENT_SECONDS,
        )
        rest = b""
        async with response:
            async for data in response.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line

    def _handle_event(self, event: Any, version: str) -> str:
        """Apply one event; the new resourceVersion of the watch.

        Raises:
            RequestRefused: the event is an error; its code is the status.
        """
        event = _fields(event)
        obj = event.get("object")
        if event.get("type") == "ERROR":
            message, code = _fields(obj).get("message"), _fields(obj).get("code")
            status = code if isinstance(code, int) else 0
            raise RequestRefused(f"the API server ended the watch: {message}", status=status)
        if event.get("type") != "BOOKMARK":
            self._handler.handle_event(self._kind, event.get("type"), obj)
        new_version = _fields(_fields(obj).get("metadata")).get("resourceVersion")
        return new_version if isinstance(new_version, str) and new_version else version


def _fields(value: Any) -> Json:
    """The JSON object; for any other value an empty one."""
    return value if isinstance(value, dict) else {}
