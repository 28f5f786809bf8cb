"""What becomes of what the API server tells: into the store, and its resource into the queue."""

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
    """Views by kind, and whom an object in them concerns."""

    def of(self, kind: Kind) -> Store | PodStore:
        """The store of one kind."""

    def put(self, kind: Kind, obj: Json) -> Key | None:
        """Take in an object; whom it concerns, None where nothing is new."""

    def remove(self, kind: Kind, obj: Json) -> Key | None:
        """Forget an object; whom it concerned, None where it was unknown."""

    def owner(self, kind: Kind, key: Key) -> Key | None:
        """Whom an object in store concerns."""


class EventHandler:
    """One way into the stores for every watch and listing."""

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
        """Take in one watch event; no type means found by a listing."""
        self._count(kind, 1)
        self._apply(self.stores.remove if event_type == "DELETED" else self.stores.put, kind, obj)

    def handle_page(self, kind: Kind, objects: Sequence[Json]) -> None:
        """Take in a page of a listing."""
        self._count(kind, len(objects))
        for obj in objects:
            self._apply(self.stores.put, kind, obj)

    def handle_object(self, kind: Kind, obj: Json) -> bool:
        """Take in what was asked for by name; whether it says something new."""
        return self._apply(self.stores.put, kind, obj)

    def delete_missing(
        self, kind: Kind, uids: Mapping[Key, str], as_of: int, namespace: str | None = None
    ) -> None:
        """Forget what a whole listing of version `as_of` no longer has; `uids` is what it has.

        What the store got later than the listing is left alone, and so is what lies outside of the
        namespace, where the listing was of one.
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
        except Exception:  # one object that nobody can read must not end the watch of all others
            logger.exception("%s %s is left out", kind.name, _name_of(obj))
            return False
        self._enqueue_owner(owner)
        return owner is not None

    def _enqueue_owner(self, owner: Key | None) -> None:
        if owner is not None:
            self._enqueue(owner)


def _name_of(obj: Any) -> Any:
    """The name of an object of any shape; None where it has none."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    return metadata.get("name") if isinstance(metadata, dict) else None
