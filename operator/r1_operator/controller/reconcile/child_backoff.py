"""Backoff of failed requests for children, with the last failure of each.

The API server rejects a manifest again until the manifest or the rules of the cluster change, and each
event of the resource would resend it. A rejected manifest is therefore retried after about 1 s (after
0.2 s for a temporary failure), with a delay that doubles up to 30 s. A changed manifest is sent at
once.
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
"""A temporary failure is reported from this number in a row, because the first may pass."""


class ChildWrite(NamedTuple):
    """A request for a child: `verb` is read, apply, create or delete; `digest` is of the manifest."""

    kind: str
    verb: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _FailedWrite:
    digest: str
    refusal: WriteError
    failures: int
    due: float


class ChildBackoff:
    """Failed requests by resource; `now` is in seconds of a monotonic clock."""

    def __init__(self, *, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._failing: dict[Key, dict[tuple[str, str], _FailedWrite]] = {}

    def pause(self, resource: Key, request: ChildWrite, now: float) -> float:
        """Seconds until this request may be sent; 0 means now."""
        failed = self._failing.get(resource, {}).get(request[:2])
        if failed is None or failed.digest != request.digest:
            return 0.0
        return max(0.0, failed.due - now)

    def last_failure(self, resource: Key, request: ChildWrite) -> WriteError | None:
        """The last failure of this request, or None."""
        failed = self._failing.get(resource, {}).get(request[:2])
        return None if failed is None or failed.digest != request.digest else failed.refusal

    def record_failure(
        self, resource: Key, request: ChildWrite, refusal: WriteError, now: float
    ) -> float:
        """Record a failure; seconds until the next retry."""
        requests = self._failing.setdefault(resource, {})
        previous = requests.get(request[:2])
        failures = 1 if previous is None else previous.failures + 1
        delay = (_PASSING if refusal.temporary else _REFUSED).delay(failures, self._rng)
        requests[request[:2]] = _FailedWrite(request.digest, refusal, failures, now + delay)
        return delay

    def record_success(self, resource: Key, request: ChildWrite) -> None:
        """Drop the failure of a request that succeeded or is no longer needed."""
        if resource in self._failing:
            self._failing[resource].pop(request[:2], None)

    def retry_now(self, resource: Key, now: float) -> None:
        """Make temporary failures due at once, after the server has recovered."""
        for request, failed in self._failing.get(resource, {}).items():
            if failed.refusal.temporary:
                self._failing[resource][request] = replace(failed, due=now)

    def retain(self, resource: Key, kinds: Collection[str]) -> None:
        """Drop the failures of kinds that are no longer children."""
        retained = {
            request: failed
            for request, failed in self._failing.get(resource, {}).items()
            if request[0] in kinds
        }
        self._failing[resource] = retained
        if not retained:
            del self._failing[resource]

    def forget(self, resource: Key) -> None:
        """Drop a deleted resource."""
        self._failing.pop(resource, None)

    def reported(self, resource: Key) -> tuple[WriteError, ...]:
        """The failures that the status of this resource reports."""
        return tuple(
            failed.refusal
            for failed in self._failing.get(resource, {}).values()
            if not failed.refusal.temporary or failed.failures >= REPORTED_FAILURES
        )

    def next_retry(self, resource: Key, now: float) -> float | None:
        """Seconds until the earliest retry; None without failures."""
        due = [failed.due for failed in self._failing.get(resource, {}).values()]
        return max(SHORTEST_SECONDS, min(due) - now) if due else None
