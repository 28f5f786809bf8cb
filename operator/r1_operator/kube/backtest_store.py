"""Stores of R1Backtests, their Jobs and their pods.

They are separate from the stores of R1Inferences: the Jobs and pods are in the namespace of the
operator, have other labels, and are few.
"""

from __future__ import annotations

from collections.abc import Iterator

from r1_operator.api.names import Label
from r1_operator.kube.kinds import JOB, POD, R1BACKTEST, Json, Key, Kind, key_of
from r1_operator.kube.store import Store


class BacktestStores:
    """The stores of one operator for backtests."""

    def __init__(self) -> None:
        self._stores = {kind.name: Store(kind) for kind in (R1BACKTEST, JOB, POD)}

    def of(self, kind: Kind) -> Store:
        """The store of one kind."""
        return self._stores[kind.name]

    def put(self, kind: Kind, obj: Json) -> Key | None:
        """Store an object; the key of its backtest, None if the object is not newer."""
        return backtest_of(kind, obj) if self.of(kind).put(obj) else None

    def remove(self, kind: Kind, obj: Json) -> Key | None:
        """Remove an object; the key of its backtest, None if the object was not stored."""
        removed = self.of(kind).remove(key_of(obj), obj["metadata"].get("uid", ""))
        return backtest_of(kind, obj) if removed else None

    def owner(self, kind: Kind, key: Key) -> Key | None:
        """The backtest of a stored object."""
        stored = self.of(kind).get(key)
        return backtest_of(kind, stored.load()) if stored is not None else None

    def all_of(self, kind: Kind) -> Iterator[tuple[Key, Json]]:
        """Every stored object of a kind, with the key of its backtest."""
        for stored in list(self.of(kind).objects.values()):
            obj = stored.load()
            backtest = backtest_of(kind, obj)
            if backtest is not None:
                yield backtest, obj


def backtest_of(kind: Kind, obj: Json) -> Key | None:
    """The backtest that an object is, or belongs to by its labels."""
    if kind == R1BACKTEST:
        return key_of(obj)
    labels = obj["metadata"].get("labels") or {}
    namespace, name = labels.get(Label.BACKTEST_NAMESPACE), labels.get(Label.BACKTEST)
    return Key(namespace, name) if namespace and name else None
