"""When a child whose last write failed is written again, and what that failure was.

A refused manifest is refused again as long as neither it nor the cluster's rules change, and each
event of the resource would send it anew. So a failed manifest waits: about a second after the first
refusal (a fifth of that after a failure that may pass), twice as long after each further one, 30 s at
most. Another manifest does not wait.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from r1_operator.controller.workqueue import Backoff
from r1_operator.kube.kinds import Key
from r1_operator.plan.snapshot import WriteError

_REFUSED: Final = Backoff(base_seconds=0.5, cap_seconds=30.0)
_PASSING: Final = Backoff(base_seconds=0.1, cap_seconds=30.0)
SHORTEST_SECONDS: Final = 0.1
REPORTED_FAILURES: Final = 2
"""A temporary failure is reported from this many in a row on: the first may be over already."""


class ChildWrite(NamedTuple):
    """What is tried: `verb` is read, apply or delete; `digest` is of the manifest, where there is one."""

    kind: str
    verb: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Failing:
    digest: str
    refusal: WriteError
    failures: int
    due: float


class ChildBackoff:
    """The failing requests of each resource. `now` is in seconds of a monotonic clock."""

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._failing: dict[Key, dict[tuple[str, str], _Failing]] = {}

    def pause(self, resource: Key, request: ChildWrite, now: float) -> float:
        """Seconds until this request may be sent again; 0 means now."""
        failing = self._failing.get(resource, {}).get(request[:2])
        if failing is None or failing.digest != request.digest:
            return 0.0
        return max(0.0, failing.due - now)

    def failure(self, resource: Key, request: ChildWrite) -> WriteError | None:
        """What this request last failed with; None where it did not."""
        failing = self._failing.get(resource, {}).get(request[:2])
        return None if failing is None or failing.digest != request.digest else failing.refusal

    def failed(self, resource: Key, request: ChildWrite, refusal: WriteError, now: float) -> float:
        """Note a failure; seconds until the next try."""
        requests = self._failing.setdefault(resource, {})
        known = requests.get(request[:2])
        failures = 1 if known is None else known.failures + 1
        delay = (_PASSING if refusal.temporary else _REFUSED).delay(failures, self._rng)
        requests[request[:2]] = _Failing(request.digest, refusal, failures, now + delay)
        return delay

    def succeeded(self, resource: Key, request: ChildWrite) -> None:
        """The request was answered, or is not needed any more."""
        if resource in self._failing:
            self._failing[resource].pop(request[:2], None)

    def release(self, resource: Key, now: float) -> None:
        """Let what failed for a reason that may pass be tried at once: the server answers again."""
        for subject, failing in self._failing.get(resource, {}).items():
            if failing.refusal.temporary:
                self._failing[resource][subject] = replace(failing, due=now)

    def keep(self, resource: Key, kinds: Collection[str]) -> None:
        """Forget the failures of kinds that are no children any more."""
        left = {
            subject: failing
            for subject, failing in self._failing.get(resource, {}).items()
            if subject[0] in kinds
        }
        self._failing[resource] = left
        if not left:
            del self._failing[resource]

    def forget(self, resource: Key) -> None:
        """The resource has gone."""
        self._failing.pop(resource, None)

    def reported(self, resource: Key) -> tuple[WriteError, ...]:
        """What the status says about children of this resource that could not be read or written."""
        return tuple(
            failing.refusal
            for failing in self._failing.get(resource, {}).values()
            if not failing.refusal.temporary or failing.failures >= REPORTED_FAILURES
        )

    def next_try(self, resource: Key, now: float) -> float | None:
        """Seconds until the earliest next try; None where nothing fails."""
        due = [failing.due for failing in self._failing.get(resource, {}).values()]
        return max(SHORTEST_SECONDS, min(due) - now) if due else None
