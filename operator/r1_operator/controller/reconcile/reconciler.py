"""One resource: observe it, plan it, apply what differs. Create, update, repair and restart are this.

Zero writes when settled: a child is written when the manifest it was applied with is another one
(its hash is in an annotation) or when one of our fields in it no longer says what we want. What was
found settled once is remembered by the view until the object changes.

Absence is confirmed before it is acted upon: the views see only what carries our label, and a watch
may be late, so a child that is missing there is asked for by name before it is made. That keeps us
from taking over a stranger's object, and from resetting the count of a Deployment not yet seen.

A child that cannot be read or written holds up neither the other children nor the status: the
failure becomes part of what is observed, and the child is tried again later (`child_backoff.py`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_common.clock import PROCESS_CLOCK, AnchoredClock
from r1_operator.api.parsing import Invalid
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.controller.reconcile.child_backoff import ChildBackoff, ChildWrite
from r1_operator.controller.reconcile.conflict_backoff import ConflictBackoff
from r1_operator.controller.reconcile.drift import APPLIED, drift, manifest_hash, with_hash
from r1_operator.controller.reconcile.model_names import NameIndex
from r1_operator.controller.reconcile.status_diff import carried_over, status_differs
from r1_operator.controller.scaling.pod_deletion_costs import write_deletion_cost
from r1_operator.controller.scaling.scaling_loop import WARM_UP_SECONDS, ScalingLoop
from r1_operator.kube.client import Api, KubeApiError, NotFound, NotLeading, RequestRefused
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import (
    BY_NAME,
    CHILD_KINDS,
    CONFIG_MAP,
    DEPLOYMENT,
    POD_DISRUPTION_BUDGET,
    R1INFERENCE,
    SERVICE,
    SERVICE_MONITOR,
    Json,
    Key,
    Kind,
)
from r1_operator.kube.store import StoredObject, Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.placement.pod_deletion_cost import plan_deletion_costs
from r1_operator.plan.resource_plan import plan
from r1_operator.plan.scaling.decision import UNMET
from r1_operator.plan.snapshot import ABSENT, Defaults, Found, Observed, WriteError
from r1_operator.plan.status.resource_status import NOT_APPLIED_REASONS, plan_status
from r1_operator.plan.status.unreadable_spec import plan_unreadable_status

logger = logging.getLogger(__name__)

_BLOCKED_SECONDS = 10.0


@dataclass(slots=True)
class _Round:
    """One reconcile: what was found, and what became of it."""

    key: Key
    resource: R1Inference
    live: dict[str, Found] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    writes: int = 0
    failures: int = 0
    """children that could not be read or written in this round, for a reason that may pass"""
    again: float | None = None

    def look_again_in(self, seconds: float) -> None:
        """Want another reconcile after so many seconds, or earlier."""
        self.again = seconds if self.again is None else min(self.again, seconds)


class Reconciler:
    """`reconcile` is what the work queue's workers do."""

    def __init__(
        self,
        api: Api,
        views: Stores,
        scaling: ScalingLoop,
        *,
        defaults: Defaults,
        has_service_monitors: Callable[[], bool],
        enqueue: Callable[[Key], None],
        tell: Callable[[EventSpec], None],
        metrics: OperatorMetrics,
        clock: AnchoredClock = PROCESS_CLOCK,
    ) -> None:
        self._api = api
        self._views = views
        self._scaling = scaling
        self._defaults = defaults
        self._has_service_monitors = has_service_monitors
        self._enqueue = enqueue
        self._tell = tell
        self._metrics = metrics
        self._clock = clock
        self._fights = ConflictBackoff()
        self._child_backoff = ChildBackoff()
        self._model_names = NameIndex()
        self._unwritten: set[Key] = set()
        """resources whose last status could not be written"""

    async def reconcile(self, key: Key, waited: float) -> float | None:
        """Bring one resource to what its spec asks; seconds until it wants to be looked at again."""
        self._metrics.queue_wait.observe(waited)
        try:
            with self._metrics.reconcile.time():
                outcome, again = await self._reconcile(key)
        except Exception:
            self._metrics.reconciles.labels("failed").inc()
            raise
        self._metrics.reconciles.labels(outcome).inc()
        return again

    async def _reconcile(self, key: Key) -> tuple[str, float | None]:
        stored = self._views.resources.get(key)
        if stored is None:
            self._scaling.forget(key)
            self._child_backoff.forget(key)
            self._unwritten.discard(key)
            self._look_again_at(self._model_names.remove(key))
            return "settled", None
        obj = stored.load()
        try:
            resource = parse(obj)
        except Invalid as error:
            # Only an object from before a stricter CRD gets here; its children stay as they are.
            return await self._show_unreadable(key, stored, obj, str(error)), None
        if resource.deleted_at is not None:
            return "settled", None  # the garbage collector takes the children
        this = _Round(key, resource)
        children = self._child_names(key)
        self._child_backoff.keep(key, {kind.name for kind, _ in children})
        for kind, name in children:
            await self._read_child(this, kind, name)
        self._model_names.fill(self._views.children[CONFIG_MAP.name])
        self._read_names(this)
        observed, decision = self._observed(this), self._scaling.register(key, resource)
        planned = plan(observed, decision, self._clock.now())
        for manifest in planned.children:
            await self._apply_child(this, manifest)
        if planned.problem is None and not observed.write_errors:
            await self._delete_unwanted(this, {one["kind"] for one in planned.children})
        self._read_names(this)
        status = planned.status
        observed_now = self._observed(this)
        if this.writes or observed_now.write_errors != observed.write_errors:
            status = plan_status(
                observed_now, decision, self._clock.now(), unplannable=planned.problem
            )
        await self._apply_status(this, stored, status)
        pause = planned.requeue_after
        if pause is not None:
            this.look_again_in(pause)
        # What is in the way may be no object of ours, so no watch tells when it is gone.
        blocked = _BLOCKED_SECONDS if planned.problem is not None else None
        pause = blocked or self._child_backoff.next_try(key, self._clock.now())
        if pause is not None:
            this.look_again_in(pause)
        if this.failures:
            return "failed", this.again
        return "written" if this.writes else "settled", this.again

    def _read_names(self, this: _Round) -> None:
        """Take in the model names that the route claims as it is stored."""
        route = this.live[CONFIG_MAP.name]
        if route is ABSENT:
            if CONFIG_MAP.name not in this.unread:
                self._look_again_at(self._model_names.remove(this.key))
        elif _is_owned(route, this.resource.uid):
            self._look_again_at(self._model_names.update(route))

    def _look_again_at(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._enqueue(key)

    def _child_names(self, key: Key) -> list[tuple[Kind, str]]:
        names = [
            (DEPLOYMENT, key.name),
            (SERVICE, key.name),
            (POD_DISRUPTION_BUDGET, key.name),
            (CONFIG_MAP, f"{key.name}-route"),
        ]
        if self._has_service_monitors():
            names.append((SERVICE_MONITOR, key.name))
        return names

    async def _read_child(self, this: _Round, kind: Kind, name: str) -> None:
        """Find one child. One that cannot be read counts as ABSENT, and nothing is applied to it."""
        this.unread.add(kind.name)
        this.live[kind.name] = ABSENT

        async def read() -> None:
            key = Key(this.key.namespace, name)
            this.live[kind.name] = await self._find(kind, key, this.resource.uid)
            this.unread.discard(kind.name)

        await self._attempt(this, ChildWrite(kind.name, "read"), name, read)

    async def _find(self, kind: Kind, key: Key, owner_uid: str) -> Found:
        stored = self._views.children[kind.name].get(key)
        if stored is not None:
            return stored.load()
        found = await self._api.get(kind, key.namespace, key.name)
        if found is None:
            return ABSENT
        if _is_owned(found, owner_uid):
            self._views.put(kind, found)
        return found

    async def _attempt(
        self, this: _Round, request: ChildWrite, name: str, work: Callable[[], Awaitable[None]]
    ) -> None:
        """Read, write or delete one child, unless the same request failed a moment ago.

        Raises:
            NotLeading: this process may not write any more, the status neither.
        """
        if self._child_backoff.pause(this.key, request, self._clock.now()) > 0:
            return
        try:
            await work()
        except NotLeading:
            raise
        except Exception as error:  # noqa: BLE001 (whatever it was: the status is written)
            self._note_failure(this, request, name, error)
        else:
            self._child_backoff.succeeded(this.key, request)

    def _note_failure(self, this: _Round, request: ChildWrite, name: str, error: Exception) -> None:
        """Make the failure of a child part of what is observed."""
        known = isinstance(error, KubeApiError)
        words = (
            error.detail if isinstance(error, KubeApiError) else f"{type(error).__name__}: {error}"
        )
        refusal = WriteError(
            request.kind, name, words, temporary=not isinstance(error, RequestRefused)
        )
        this.failures += refusal.temporary
        delay = self._child_backoff.failed(this.key, request, refusal, self._clock.now())
        logger.log(
            logging.WARNING if known else logging.ERROR,
            "%s: %s of %s %s failed, again in %.1f s: %s",
            this.key,
            request.verb,
            request.kind,
            name,
            delay,
            error,
            exc_info=None if known else error,
        )

    def _observed(self, this: _Round) -> Observed:
        return Observed(
            resource=this.resource,
            defaults=self._defaults,
            deployment=this.live[DEPLOYMENT.name],
            service=this.live[SERVICE.name],
            disruption_budget=this.live[POD_DISRUPTION_BUDGET.name],
            route=this.live[CONFIG_MAP.name],
            service_monitor=this.live.get(SERVICE_MONITOR.name, ABSENT),
            pods=self._views.pods.of(this.key),
            has_service_monitors=self._has_service_monitors(),
            write_errors=self._child_backoff.reported(this.key),
            unread_kinds=frozenset(this.unread),
            name_conflicts=self._model_names.lost(this.key),
            wall_offset=self._clock.wall_offset(),
        )

    async def _apply_child(self, this: _Round, manifest: Json) -> None:
        """Bring one child to its manifest."""
        kind = BY_NAME[manifest["kind"]]
        key = Key(this.key.namespace, manifest["metadata"]["name"])
        digest = manifest_hash(manifest)
        if kind.name not in this.unread:
            write = functools.partial(self._write_child, this, kind, key, manifest, digest)
            await self._attempt(this, ChildWrite(kind.name, "apply", digest), key.name, write)

    async def _write_child(
        self, this: _Round, kind: Kind, key: Key, manifest: Json, digest: str
    ) -> None:
        live = this.live[kind.name]
        view = self._views.children[kind.name]
        stored = view.get(key)
        why = _why(manifest, digest, live, stored)
        if why is None:
            if stored is not None:
                stored.settled_for = digest
            return
        if why == "repair":
            pause = self._fights.pause((kind.name, key), self._clock.now())
            if pause > 0:
                this.look_again_in(pause)
                return
        if kind == DEPLOYMENT and why != "create":
            await self._choose_victims(this, manifest["spec"]["replicas"])
        answer = await self._api.apply(kind, *key, with_hash(manifest, digest))
        self._views.put(kind, answer)
        this.writes += 1
        this.live[kind.name] = answer
        self._metrics.writes.labels(kind.name, why).inc()
        stored = view.get(key)
        if stored is not None:
            stored.settled_for = digest
        logger.info("%s: %s %s %s", this.key, why, kind.name, key.name)
        if why == "repair":
            self._tell_of(this, "Repaired", f"{kind.name} {key.name} was changed from outside.")

    async def _choose_victims(self, this: _Round, wanted: int) -> None:
        """Say which pods go, before the count falls and somebody else has to pick."""
        live = this.live[DEPLOYMENT.name]
        if live is ABSENT or live["spec"].get("replicas", 1) <= wanted:
            return
        pods, loads = self._views.pods.of(this.key), self._scaling.loads(this.key)
        for cost in plan_deletion_costs(pods, loads, wanted):
            this.writes += await write_deletion_cost(
                self._api, self._views, self._metrics, this.key.namespace, cost
            )

    async def _delete_unwanted(self, this: _Round, wanted: set[str]) -> None:
        for kind in CHILD_KINDS:
            if kind.name in wanted:
                continue
            live = this.live.get(kind.name, ABSENT)
            if live is ABSENT or not _is_owned(live, this.resource.uid):
                continue
            delete = functools.partial(self._delete_child, this, kind, live)
            await self._attempt(this, ChildWrite(kind.name, "delete"), this.key.name, delete)

    async def _delete_child(self, this: _Round, kind: Kind, live: Mapping[str, Any]) -> None:
        await self._api.delete(kind, *this.key, uid=live["metadata"]["uid"])
        self._views.remove(kind, dict(live))
        self._metrics.writes.labels(kind.name, "delete").inc()
        this.writes += 1

    async def _apply_status(self, this: _Round, stored: StoredObject, status: Json) -> None:
        if self._scaling.warming_up and this.resource.spec.autoscaling is not None:
            kept = carried_over(status, this.resource.status)
            if status_differs(kept, status):
                this.look_again_in(WARM_UP_SECONDS)
            status = kept
        before = this.resource.status
        if status_differs(status, before):
            this.writes += await self._write_status(this.key, stored, before, status)

    async def _show_unreadable(
        self, key: Key, stored: StoredObject, obj: Json, message: str
    ) -> str:
        """Write what can be said of a resource whose spec cannot be read; the outcome."""
        metadata, before = obj["metadata"], obj.get("status") or {}
        if metadata.get("deletionTimestamp"):
            return "settled"
        pods, generation = self._views.pods.of(key), metadata.get("generation", 0)
        status = plan_unreadable_status(
            before, generation, pods, message, self._clock.shown(self._clock.now())
        )
        if not status_differs(status, before):
            return "settled"
        return "written" if await self._write_status(key, stored, before, status) else "settled"

    async def _write_status(
        self, key: Key, stored: StoredObject, before: Mapping[str, Any], status: Json
    ) -> bool:
        """Write the status and its Events; False where the resource has gone meanwhile."""
        # Events first: where the status cannot be written they are all that people see.
        self._tell_of_conditions(key, stored.uid, before, status)
        manifest = {
            "apiVersion": R1INFERENCE.api_version,
            "kind": R1INFERENCE.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": stored.uid},
            "status": status,
        }
        try:
            answer = await self._api.apply(R1INFERENCE, *key, manifest, subresource="status")
        except NotFound:
            return False  # deleted meanwhile: its event is on the way
        except KubeApiError:
            self._unwritten.add(key)
            raise
        if key in self._unwritten:
            self._unwritten.discard(key)
            self._child_backoff.release(key, self._clock.now())
        self._metrics.writes.labels(R1INFERENCE.name, "status").inc()
        self._views.put(R1INFERENCE, answer)
        now_stored = self._views.resources.get(key)
        if now_stored is not None and now_stored.digest != stored.digest:
            self._enqueue(key)  # the answer brought a change of the spec with it
        return True

    def _tell_of_conditions(
        self, key: Key, uid: str, stored: Mapping[str, Any], status: Mapping[str, Any]
    ) -> None:
        before = _conditions(stored)
        for name, (value, reason, message) in _conditions(status).items():
            old = before.get(name, ("", "", ""))
            # Of what was refused each message counts: the next one is about another field.
            each = reason in NOT_APPLIED_REASONS or name == "ModelNameConflict"
            if old == (value, reason, message) or (old[:2] == (value, reason) and not each):
                continue
            if name in ("Degraded", "ModelNameConflict") and value == "True":
                self._tell(EventSpec(key, uid, reason, message, warning=True))
            elif name == "Ready" and value == "True":
                self._tell(EventSpec(key, uid, reason, message))
            elif name == "ScalingLimited" and reason in UNMET:
                logger.warning("%s: limited (%s) %s", key, reason, message)
                self._tell(EventSpec(key, uid, reason, message, warning=True))

    def _tell_of(self, this: _Round, reason: str, note: str, *, warning: bool = False) -> None:
        self._tell(EventSpec(this.key, this.resource.uid, reason, note, warning=warning))


def _why(manifest: Json, digest: str, live: Found, stored: StoredObject | None) -> str | None:
    """Why a child has to be written: create, change, repair; None where it is settled."""
    if live is ABSENT:
        return "create"
    if stored is not None and stored.settled_for == digest:
        return None
    annotations = live["metadata"].get("annotations") or {}
    if annotations.get(APPLIED) != digest:
        return "change"
    return "repair" if drift(manifest, live) else None


def _is_owned(live: Mapping[str, Any], uid: str) -> bool:
    owners = live["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid for owner in owners)


def _conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    found = status.get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in found}
