"""The last decisions about each resource, which `r1 explain` shows.

At most 200 per resource and a fixed total, so that ten thousand resources fit in memory. Of equal
decisions in a row (count, reason, mode) one is stored every ten seconds, and the newest always.
Decisions are stored as JSON text, a tenth of the objects' size.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

from r1_operator.kube.kinds import Json, Key
from r1_operator.plan.scaling.decision import Decision

LAST = 200
BUDGET = 20_000
_SAME_SECONDS = 10.0


@dataclass(slots=True)
class _Ring:
    texts: deque[bytes] = field(default_factory=deque)
    mark: tuple[object, ...] = ()
    marked_at: float = 0.0


class DecisionHistory:
    """Ring buffers of decisions by resource."""

    def __init__(self, *, last: int = LAST, budget: int = BUDGET) -> None:
        self._last = last
        self._budget = budget
        self._rings: dict[Key, _Ring] = {}

    def add(self, key: Key, decision: Decision) -> None:
        """Store a decision."""
        ring = self._rings.setdefault(key, _Ring())
        mark = (decision.current, decision.replicas, decision.reason, decision.mode)
        if ring.texts and mark == ring.mark and decision.at - ring.marked_at < _SAME_SECONDS:
            ring.texts.pop()
        else:
            ring.mark, ring.marked_at = mark, decision.at
        ring.texts.append(json.dumps(decision.to_json(), separators=(",", ":")).encode())
        share = max(2, min(self._last, self._budget // len(self._rings)))
        while len(ring.texts) > share:
            ring.texts.popleft()

    def of(self, key: Key) -> list[Json]:
        """Return the decisions about one resource, newest last."""
        ring = self._rings.get(key)
        return [json.loads(text) for text in ring.texts] if ring else []

    def shown(self, key: Key, wall_offset: float) -> list[Json]:
        """Return the decisions with wall clock times.

        Decisions carry times of the process' clock. `wall_offset` (seconds) moves all of them alike, so
        the time between two decisions does not change.
        """
        found = self.of(key)
        for decision in found:
            decision["at"] += wall_offset
            forecast = decision["inputs"].get("forecast")
            for name in ("issuedAt", "validUntil"):
                if forecast and name in forecast:
                    forecast[name] += wall_offset
        return found

    def forget(self, key: Key) -> None:
        """Drop a deleted resource."""
        self._rings.pop(key, None)
