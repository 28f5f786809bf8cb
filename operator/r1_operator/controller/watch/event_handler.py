"""What becomes of what the API server tells: into the view, and its resource into the queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from r1_operator.controller.liveness import Liveness
from r1_operator.kube.kinds import Json, Key, Kind
from r1_operator.kube.store import PodStore, Store
from r1_operator.metrics import OperatorMetrics

logger = logging.getLogger(__name__)


class Kept(Protocol):
    """Views by kind, and whom an object in them concerns."""

    def of(self, kind: Kind) -> Store | PodStore:
        """The view of one kind."""

    def put(self, kind: Kind, obj: Json) -> Key | None:
        """Take in an object; whom it concerns, None where nothing is new."""

    def remove(self, kind: Kind, obj: Json) -> Key | None:
        """Forget an object; whom it concerned, None where it was unknown."""

    def owner(self, kind: Kind, key: Key) -> Key | None:
        """Whom an object in view concerns."""


class EventHandler:
    """One way into the views for every watch and listing."""

    def __init__(
        self,
        views: Kept,
        *,
        enqueue: Callable[[Key], None],
        liveness: Liveness,
        metrics: OperatorMetrics,
    ) -> None:
        self.views = views
        self._enqueue = enqueue
        self._liveness = liveness
        self._metrics = metrics

    def event(self, kind: Kind, event_type: str | None, obj: Json) -> None:
        """Take in one watch event; no type means found by a listing."""
        self._heard(kind, 1)
        self._take(self.views.remove if event_type == "DELETED" else self.views.put, kind, obj)

    def page(self, kind: Kind, objects: Sequence[Json]) -> None:
        """Take in a page of a listing."""
        self._heard(kind, len(objects))
        for obj in objects:
            self._take(self.views.put, kind, obj)

    def found(self, kind: Kind, obj: Json) -> bool:
        """Take in what was asked for by name; whether it says something new."""
        return self._take(self.views.put, kind, obj)

    def drop_gone(
        self, kind: Kind, uids: Mapping[Key, str], as_of: int, namespace: str | None = None
    ) -> None:
        """Forget what a whole listing of version `as_of` no longer has; `uids` is what it has.

        What the view got later than the listing is left alone, and so is what lies outside of the
        namespace, where the listing was of one.
        """
        view = self.views.of(kind)
        for key, uid, version in view.versions():
            if version > as_of or uids.get(key) == uid or namespace not in (None, key.namespace):
                continue
            owner = self.views.owner(kind, key)
            if view.remove(key, uid):
                self._mark(owner)

    def _heard(self, kind: Kind, count: int) -> None:
        self._metrics.watch_events.labels(kind.name).inc(count)
        self._liveness.heard(kind)

    def _take(self, change: Callable[[Kind, Json], Key | None], kind: Kind, obj: Json) -> bool:
        try:
            owner = change(kind, obj)
        except Exception:  # one object that nobody can read must not end the watch of all others
            logger.exception("%s %s is left out", kind.name, _name_of(obj))
            return False
        self._mark(owner)
        return owner is not None

    def _mark(self, owner: Key | None) -> None:
        if owner is not None:
            self._enqueue(owner)


def _name_of(obj: Any) -> Any:
    """The name of an object of any shape; None where it has none."""
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    return metadata.get("name") if isinstance(metadata, dict) else None
