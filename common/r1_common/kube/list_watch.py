"""List and watch of one collection of the API server, without end, as in client-go.

The gateway and the operator reach the server by different clients and store objects in different
forms. A `Collection` opens the requests, a `Sink` stores the objects. The protocol is here:

- A listing gives the objects and a resourceVersion, from which the watch begins.
- A watch that ends resumes at the version of its last event or bookmark.
- A version that the server has dropped (410 Gone) or refuses is listed again. The `Sink` then finds
  the objects that were deleted meanwhile.
- Failures are retried after a pause with backoff and jitter. The sink keeps its last state.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final, Protocol

import aiohttp

from r1_common.untrusted_json import convert_errors, parse_json

logger = logging.getLogger(__name__)

KubeObject = dict[str, Any]

ABSENT: Final = object()
"""Stands for the object of an event that has none; null is an object without the known shape."""

LINE_BYTES: Final = 16 << 20  # etcd stores at most 1.5 MiB per object by default
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.25, 10.0
_UNUSABLE_VERSION: Final = (400, 410)
"""Status codes for an invalid or expired resourceVersion: list again."""


class InvalidEvent(ValueError):
    """A list or an event without the shape of the Kubernetes API: its objects are unknown."""


class WatchEnded(Exception):
    """The server ended the watch by an ERROR event; ``status`` is its code, 0 without one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Collection(Protocol):
    """Requests for one collection. An error of the server has its HTTP status as ``status``."""

    def list_pages(self) -> AsyncIterator[KubeObject]:
        """The pages (List objects) of a complete listing: at least one."""

    async def open_watch(self, version: str) -> aiohttp.ClientResponse:
        """The response of a watch from ``version``, with bookmarks; the reader closes it."""


class Sink(Protocol):
    """Storage of the objects."""

    def begin_list(self) -> None:
        """A listing begins; an earlier one may have failed halfway."""

    def add_page(self, page: KubeObject) -> None:
        """Store a page, whose ``items`` is a list."""

    def end_list(self) -> None:
        """The listing is complete: objects that it does not have are deleted."""

    def handle_event(self, event_type: Any, obj: Any) -> None:
        """Store one event other than BOOKMARK and ERROR; its parts may have any shape.

        ``obj`` is `ABSENT` where the event has no object.

        An `InvalidEvent` makes the collection be listed again.
        """


def watch_query(selector: str, version: str, seconds: float) -> dict[str, str]:
    """Query of a watch that the server ends after ``seconds``."""
    return {
        "labelSelector": selector,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": f"{seconds:.0f}",
    }


def jittered_pause(failures: int) -> float:
    """Seconds to wait after this many failures in succession: backoff with full jitter."""
    limit = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10))
    return random.uniform(0, limit)  # noqa: S311 (jitter, not a secret)


class ListWatch:
    """Lists ``collection`` into ``sink`` and watches it; ``subject`` names it in the log."""

    def __init__(
        self,
        collection: Collection,
        sink: Sink,
        subject: str,
        *,
        decode: Callable[[bytes], Any] = parse_json,
        client_errors: tuple[type[Exception], ...] = (),
        pause: Callable[[int], float] = jittered_pause,
    ) -> None:
        """``client_errors``: declared errors of the collection's requests, besides aiohttp's.

        ``pause`` returns seconds by the number of failures in succession.
        """
        self.lists = 0
        self.invalid = 0
        self._collection = collection
        self._sink = sink
        self._subject = subject
        self._decode = decode
        self._expected = (WatchEnded, aiohttp.ClientError, OSError, ValueError, *client_errors)
        self._pause = pause
        self._version = ""
        self._failures = 0
        self._refusals = 0
        self._last_logged = ""

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if not self._version:
                    self._version, self._refusals = await self._list(), 0
                await self._watch()
                # The watch ended normally. The pause protects a server that ends each watch at once.
                pause = self._pause(1)
            except Exception as error:  # noqa: BLE001 - a loop that ended would leave its sink stale
                self._failed(error)
                pause = self._pause(self._failures)
            await asyncio.sleep(pause)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self.invalid += isinstance(error, InvalidEvent)
        expected = isinstance(error, self._expected)
        if self._drops_version(error, expected=expected):
            self._version = ""
        message = str(error) or type(error).__name__
        if message != self._last_logged:
            self._last_logged = message
            logger.log(
                logging.WARNING if expected else logging.ERROR,
                "watch of %s failed, retrying: %s; keeping the last state",
                self._subject,
                message,
                exc_info=None if expected else error,
            )

    def _drops_version(self, error: Exception, *, expected: bool) -> bool:
        """Whether the next watch cannot begin at the present version."""
        status = getattr(error, "status", 0)
        if not expected or isinstance(error, InvalidEvent) or status in _UNUSABLE_VERSION:
            return True
        # A single failure of the server passes. After a restore of etcd the version is in the future,
        # and the server refuses it each time (504).
        self._refusals += isinstance(error, WatchEnded) or status >= 500
        return self._refusals > 1

    async def _list(self) -> str:
        """List everything; the resourceVersion of the first page."""
        self.lists += 1
        version = ""
        self._sink.begin_list()
        async for page in self._collection.list_pages():
            # A page without items is no list: it must not count as one without objects.
            with convert_errors(InvalidEvent, f"a list of {self._subject}"):
                page["items"] = page["items"] or []
                version = version or _text(page["metadata"].get("resourceVersion"))
            self._sink.add_page(page)
        self._sink.end_list()
        return version

    async def _watch(self) -> None:
        response = await self._collection.open_watch(self._version)
        async with response, aclosing(_lines(response)) as lines:
            async for line in lines:
                with convert_errors(InvalidEvent, f"an event of {self._subject}"):
                    event = self._decode(line)
                self.handle(event)
                self._failures, self._refusals, self._last_logged = 0, 0, ""

    def handle(self, event: Any) -> None:
        """Apply one event of the watch.

        Raises:
            WatchEnded: it is an ERROR event.
            InvalidEvent: the sink cannot use it.
        """
        fields = _fields(event)
        obj = fields.get("object", ABSENT)
        if fields.get("type") == "ERROR":
            code = _fields(obj).get("code")
            message = _fields(obj).get("message") or ("" if obj is ABSENT else str(obj))
            raise WatchEnded(
                code if isinstance(code, int) else 0,
                f"the API server ended the watch: {str(message)[:500]}",
            )
        if fields.get("type") != "BOOKMARK":
            self._sink.handle_event(fields.get("type"), obj)
        version = _fields(_fields(obj).get("metadata")).get("resourceVersion")
        if isinstance(version, str) and version:
            self._version = version


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """The lines of a watch until the server ends it."""
    rest = b""
    try:
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > LINE_BYTES:
                raise InvalidEvent(f"an event has more than {LINE_BYTES} bytes")
            for line in lines:
                if line:
                    yield line
    except (asyncio.CancelledError, GeneratorExit):
        # The task ends now, so it cannot wait for the TLS close of the server.
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()
        raise


def _text(value: object) -> str:
    """A string; empty for None.

    Raises:
        InvalidEvent: any other type.
    """
    if value is not None and not isinstance(value, str):
        raise InvalidEvent("metadata must contain strings")
    return value or ""


def _fields(value: Any) -> KubeObject:
    """The JSON object; for any other value an empty one."""
    return value if isinstance(value, dict) else {}
