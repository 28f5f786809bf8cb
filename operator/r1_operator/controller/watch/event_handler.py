"""Event handler: store watched objects and enqueue their resources."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from r1_operator.controller.liveness import Liveness
from r1_operator.kube.kinds import Json, Key, Kind
from r1_operator.kube.store import PodStore, Store
from r1_operator.metrics import OperatorMetrics

logger = logging.getLogger(__name__)


class ObjectStores(Protocol):
    """Stores by kind, with the owner of each stored object."""

    def of(self, kind: Kind) -> Store | PodStore:
        """The store of one kind."""

    def put(self, kind: Kind, obj: Json) -> Key | None:
        """Store an object; the key of its owner, None if the object is not newer."""

    def remove(self, kind: Kind, obj: Json) -> Key | None:
        """Remove an object; the key of its owner, None if the object was not stored."""

    def owner(self, kind: Kind, key: Key) -> Key | None:
        """The owner of a stored object."""


class EventHandler:
    """Applies the events of every watch and the pages of every listing to the stores."""

    def __init__(
        self,
        stores: ObjectStores,
        *,
        enqueue: Callable[[Key], None],
        liveness: Liveness,
        metrics: OperatorMetrics,
    ) -> None:
        self.stores = stores
        self._enqueue = enqueue
        self._liveness = liveness
        self._metrics = metrics

    def handle_event(self, kind: Kind, event_type: str | None, obj: Json) -> None:
        """Apply one watch event; without a type it comes from a listing."""
        self._count(kind, 1)
        self._apply(self.stores.remove if event_type == "DELETED" else self.stores.put, kind, obj)

    def handle_page(self, kind: Kind, objects: Sequence[Json]) -> None:
        """Store one page of a listing."""
        self._count(kind, len(objects))
        for obj in objects:
            self._apply(self.stores.put, kind, obj)

    def handle_object(self, kind: Kind, obj: Json) -> bool:
        """Store an object that was read by name; whether it is newer than the stored one."""
        return self._apply(self.stores.put, kind, obj)

    def delete_missing(
        self, kind: Kind, uids: Mapping[Key, str], as_of: int, namespace: str | None = None
    ) -> None:
        """Remove the objects that a complete listing of version `as_of` does not have.

        `uids` are the listed objects. Objects that are newer than the listing stay, and so do objects
        outside the listed namespace.
        """
        store = self.stores.of(kind)
        for key, uid, version in store.versions():
            if version > as_of or uids.get(key) == uid or namespace not in (None, key.namespace):
                continue
            owner = self.stores.owner(kind, key)
            if store.remove(key, uid):
                self._enqueue_owner(owner)

    def _count(self, kind: Kind, count: int) -> None:
        self._metrics.watch_events.labels(kind.name).inc(count)
        self._liveness.event_received(kind)

    def _apply(self, change: Callable[[Kind, Json], Key | None], kind: Kind, obj: Json) -> bool:
        try:
            owner = change(kind, obj)
        except Exception:  # one malformed object must not end the watch of the others
            logger.exception("malformed %s %s is ignored", kind.name, _name_of(obj))
            return False
        self._enqueue_owner(owner)
        return owner is not None

    def _enqueue_owner(self, owner: Key | None) -> None:
        if owner is not None:
            self._enqueue(owner)


def _name_of(obj: Any) -> Any:
    """The name of a possibly malformed object, or None."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    return metadata.get("name") if isinstance(metadata, dict) else None
