"""Reflector: list and watch one kind into its store, as in client-go.

Reflectors serve the kinds that the operator creates, at least four objects per resource. kopf runs a
queue and a task per object for handlers that wait. These handlers never wait, so a page of a listing is
stored in one call, at a fraction of the cost. A listing also has an end and shows deleted objects, which
the events of kopf do not.

The protocol is that of `r1_common.kube.list_watch`. A malformed object is logged and ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import aiohttp
import orjson

from r1_common.kube.list_watch import ListWatch, watch_query
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.kube.client import Api, KubeApiError
from r1_operator.kube.kinds import Json, Key, Kind, key_of
from r1_operator.kube.store import version_of

_WATCH_SECONDS: Final = 600.0
_SILENT_SECONDS: Final = _WATCH_SECONDS + 30.0


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
    ) -> None:
        """`selector` is a label selector; without namespaces all are watched."""
        self._handler = handler
        self._kind = kind
        self._listings = [
            NamespaceListing(api, handler, kind, selector, namespace, self._listed)
            for namespace in tuple(namespaces) or (None,)
        ]
        self._unlisted: set[str | None] = {listing.namespace for listing in self._listings}

    async def run(self) -> None:
        """Reflect until cancelled; the store is complete once every namespace is listed."""
        async with asyncio.TaskGroup() as group:
            for listing in self._listings:
                loop = ListWatch(
                    listing,
                    listing,
                    self._kind.plural,
                    decode=orjson.loads,
                    client_errors=(KubeApiError,),
                )
                group.create_task(loop.run())

    def _listed(self, namespace: str | None) -> None:
        self._unlisted.discard(namespace)
        if not self._unlisted:
            self._handler.stores.of(self._kind).complete.set()


class NamespaceListing:
    """The objects of one kind in one namespace (None: in all), for the store of the kind."""

    def __init__(
        self,
        api: Api,
        handler: EventHandler,
        kind: Kind,
        selector: str,
        namespace: str | None,
        on_listed: Callable[[str | None], None],
    ) -> None:
        self.namespace = namespace
        self._api = api
        self._handler = handler
        self._kind = kind
        self._selector = selector
        self._on_listed = on_listed
        self._uids: dict[Key, str] = {}
        self._as_of: int | None = None

    def list_pages(self) -> AsyncIterator[Json]:
        """The pages of a listing."""
        return self._api.list_pages(self._kind, self.namespace, label_selector=self._selector)

    async def open_watch(self, version: str) -> aiohttp.ClientResponse:
        """The response of a watch from `version`."""
        return await self._api.stream(
            self._kind.path(self.namespace),
            watch_query(self._selector, version, _WATCH_SECONDS),
            silent_seconds=_SILENT_SECONDS,
        )

    def begin_list(self) -> None:
        """A listing begins."""
        self._uids, self._as_of = {}, None

    def add_page(self, page: Json) -> None:
        """Store the objects of a page."""
        if self._as_of is None:
            self._as_of = version_of(page)
        for obj in page["items"]:
            with contextlib.suppress(KeyError, TypeError, AttributeError):  # logged by the handler
                # A list has the kind once, an event in each object: use the same digest for both.
                obj["apiVersion"], obj["kind"] = self._kind.api_version, self._kind.name
                self._uids[key_of(obj)] = obj["metadata"].get("uid", "")
        self._handler.handle_page(self._kind, page["items"])

    def end_list(self) -> None:
        """Remove the objects that the listing does not have."""
        self._handler.delete_missing(self._kind, self._uids, self._as_of or 0, self.namespace)
        self._uids = {}
        self._on_listed(self.namespace)

    def handle_event(self, event_type: Any, obj: Any) -> None:
        """Apply one event."""
        self._handler.handle_event(self._kind, event_type, obj)
