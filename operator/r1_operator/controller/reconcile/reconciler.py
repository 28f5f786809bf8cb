"""Reconciler of R1Inferences: observe, plan, apply the difference.

An unchanged resource needs no write. A child is written if the hash of its manifest (in an annotation)
changed, or if one of its fields drifted. The store remembers a child without drift until the child
changes.

Absence is confirmed before a child is created: stores have only labelled objects, and a watch can be
late. A missing child is therefore read by name first. The operator thus never takes over a foreign
object, and never resets the count of a Deployment that is not stored yet.

A child that cannot be read or written delays neither the other children nor the status: the failure
becomes part of the observation, and the child is retried later (`child_backoff.py`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_common.clock import PROCESS_CLOCK, AnchoredClock
from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.controller.reconcile.child_backoff import ChildBackoff, ChildWrite
from r1_operator.controller.reconcile.conflict_backoff import ConflictBackoff
from r1_operator.controller.reconcile.drift import APPLIED, drift, manifest_hash, with_hash
from r1_operator.controller.reconcile.model_names import NameIndex
from r1_operator.controller.reconcile.status_diff import status_differs, with_previous_scaling
from r1_operator.controller.scaling.pod_deletion_costs import write_deletion_cost
from r1_operator.controller.scaling.scaling_loop import WARM_UP_SECONDS, ScalingLoop
from r1_operator.kube.client import Api, KubeApiError, NotFound, NotLeader, RequestRefused
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
class _ReconcileContext:
    """State of one reconcile: the observed children, the writes and the failures."""

    key: Key
    resource: R1Inference
    live: dict[str, Found] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    writes: int = 0
    failures: int = 0
    """children that could not be read or written because of a temporary failure"""
    requeue_after: float | None = None

    def requeue_in(self, seconds: float) -> None:
        """Requeue after this delay, or earlier."""
        self.requeue_after = (
            seconds if self.requeue_after is None else min(self.requeue_after, seconds)
        )


class Reconciler:
    """Reconciles R1Inferences; the workers of the work queue call `reconcile`."""

    def __init__(
        self,
        api: Api,
        stores: Stores,
        scaling: ScalingLoop,
        *,
        defaults: Defaults,
        has_service_monitors: Callable[[], bool],
        enqueue: Callable[[Key], None],
        emit: Callable[[EventSpec], None],
        metrics: OperatorMetrics,
        clock: AnchoredClock = PROCESS_CLOCK,
    ) -> None:
        self._api = api
        self._stores = stores
        self._scaling = scaling
        self._defaults = defaults
        self._has_service_monitors = has_service_monitors
        self._enqueue = enqueue
        self._emit = emit
        self._metrics = metrics
        self._clock = clock
        self._conflict_backoff = ConflictBackoff()
        self._child_backoff = ChildBackoff()
        self._model_names = NameIndex()
        self._status_unwritten: set[Key] = set()
        """resources whose last status write failed"""

    async def reconcile(self, key: Key, waited: float) -> float | None:
        """Reconcile one resource with its spec; seconds until it is requeued."""
        self._metrics.queue_wait.observe(waited)
        try:
            with self._metrics.reconcile.time():
                outcome, requeue_after = await self._reconcile(key)
        except Exception:
            self._metrics.reconciles.labels("failed").inc()
            raise
        self._metrics.reconciles.labels(outcome).inc()
        return requeue_after

    async def _reconcile(self, key: Key) -> tuple[str, float | None]:
        stored = self._stores.resources.get(key)
        if stored is None:
            self._scaling.forget(key)
            self._child_backoff.forget(key)
            self._status_unwritten.discard(key)
            self._enqueue_all(self._model_names.remove(key))
            return "unchanged", None
        obj = stored.load()
        try:
            resource = parse(obj)
        except Invalid as error:
            # Possible for an object that is older than a stricter CRD; its children stay unchanged.
            return await self._write_unreadable_status(key, stored, obj, str(error)), None
        if resource.deleted_at is not None:
            return "unchanged", None  # the garbage collector deletes the children
        context = _ReconcileContext(key, resource)
        children = self._child_names(key)
        self._child_backoff.retain(key, {kind.name for kind, _ in children})
        for kind, name in children:
            await self._read_child(context, kind, name)
        self._model_names.fill(self._stores.children[CONFIG_MAP.name])
        self._update_model_names(context)
        observed = self._observed(context)
        self._scaling.register(key, resource)
        decision = self._scaling.current_decision(key)
        planned = plan(observed, decision, self._clock.now())
        for manifest in planned.children:
            await self._apply_child(context, manifest)
        if planned.problem is None and not observed.write_errors:
            await self._delete_unwanted(context, {one["kind"] for one in planned.children})
        self._update_model_names(context)
        # Planned once, after the writes: the status shows what the children have become.
        status = plan_status(
            self._observed(context), decision, self._clock.now(), unplannable=planned.problem
        )
        await self._apply_status(context, stored, status)
        pause = planned.requeue_after
        if pause is not None:
            context.requeue_in(pause)
        # The blocking object may be foreign, and no watch reports its deletion.
        blocked = _BLOCKED_SECONDS if planned.problem is not None else None
        pause = blocked or self._child_backoff.next_retry(key, self._clock.now())
        if pause is not None:
            context.requeue_in(pause)
        if context.failures:
            return "failed", context.requeue_after
        return "updated" if context.writes else "unchanged", context.requeue_after

    def _update_model_names(self, context: _ReconcileContext) -> None:
        """Update the index with the model names of the stored route."""
        route = context.live[CONFIG_MAP.name]
        if route is ABSENT:
            if CONFIG_MAP.name not in context.unread:
                self._enqueue_all(self._model_names.remove(context.key))
        elif _is_owned(route, context.resource.uid):
            self._enqueue_all(self._model_names.update(route))

    def _enqueue_all(self, keys: Iterable[Key]) -> None:
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

    async def _read_child(self, context: _ReconcileContext, kind: Kind, name: str) -> None:
        """Read one child. A child that cannot be read counts as ABSENT and is not written."""
        context.unread.add(kind.name)
        context.live[kind.name] = ABSENT

        async def read() -> None:
            key = Key(context.key.namespace, name)
            context.live[kind.name] = await self._find(kind, key, context.resource.uid)
            context.unread.discard(kind.name)

        await self._attempt(context, ChildWrite(kind.name, "read"), name, read)

    async def _find(self, kind: Kind, key: Key, owner_uid: str) -> Found:
        stored = self._stores.children[kind.name].get(key)
        if stored is not None:
            return stored.load()
        child = await self._api.get(kind, key.namespace, key.name)
        if child is None:
            return ABSENT
        if _is_owned(child, owner_uid):
            self._stores.put(kind, child)
        return child

    async def _attempt(
        self,
        context: _ReconcileContext,
        request: ChildWrite,
        name: str,
        work: Callable[[], Awaitable[None]],
    ) -> None:
        """Read, write or delete one child, unless its backoff has not elapsed.

        Raises:
            NotLeader: this process may not write, not even the status.
        """
        if self._child_backoff.pause(context.key, request, self._clock.now()) > 0:
            return
        try:
            await work()
        except NotLeader:
            raise
        except Exception as error:  # noqa: BLE001 (every error is reported in the status)
            self._record_failure(context, request, name, error)
        else:
            self._child_backoff.record_success(context.key, request)

    def _record_failure(
        self, context: _ReconcileContext, request: ChildWrite, name: str, error: Exception
    ) -> None:
        """Record the failure of a child as part of the observation."""
        expected = isinstance(error, KubeApiError)
        detail = (
            error.detail if isinstance(error, KubeApiError) else f"{type(error).__name__}: {error}"
        )
        refusal = WriteError(
            request.kind, name, detail, temporary=not isinstance(error, RequestRefused)
        )
        context.failures += refusal.temporary
        delay = self._child_backoff.record_failure(context.key, request, refusal, self._clock.now())
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "%s: %s of %s %s failed, retrying in %.1f s: %s",
            context.key,
            request.verb,
            request.kind,
            name,
            delay,
            error,
            exc_info=None if expected else error,
        )

    def _observed(self, context: _ReconcileContext) -> Observed:
        return Observed(
            resource=context.resource,
            defaults=self._defaults,
            deployment=context.live[DEPLOYMENT.name],
            service=context.live[SERVICE.name],
            disruption_budget=context.live[POD_DISRUPTION_BUDGET.name],
            route=context.live[CONFIG_MAP.name],
            service_monitor=context.live.get(SERVICE_MONITOR.name, ABSENT),
            pods=self._stores.pods.of(context.key),
            has_service_monitors=self._has_service_monitors(),
            write_errors=self._child_backoff.reported(context.key),
            unread_kinds=frozenset(context.unread),
            name_conflicts=self._model_names.conflicts(context.key),
            wall_offset=self._clock.wall_offset(),
        )

    async def _apply_child(self, context: _ReconcileContext, manifest: Json) -> None:
        """Apply the manifest of one child."""
        kind = BY_NAME[manifest["kind"]]
        key = Key(context.key.namespace, manifest["metadata"]["name"])
        digest = manifest_hash(manifest)
        if kind.name not in context.unread:
            write = functools.partial(self._write_child, context, kind, key, manifest, digest)
            await self._attempt(context, ChildWrite(kind.name, "apply", digest), key.name, write)

    async def _write_child(
        self, context: _ReconcileContext, kind: Kind, key: Key, manifest: Json, digest: str
    ) -> None:
        live = context.live[kind.name]
        store = self._stores.children[kind.name]
        stored = store.get(key)
        reason = _write_reason(manifest, digest, live, stored)
        if reason is None:
            if stored is not None:
                stored.synced_hash = digest
            return
        if reason == "repair":
            pause = self._conflict_backoff.pause((kind.name, key), self._clock.now())
            if pause > 0:
                context.requeue_in(pause)
                return
        if kind == DEPLOYMENT and reason != "create":
            await self._write_deletion_costs(context, manifest["spec"]["replicas"])
        response = await self._api.apply(kind, *key, with_hash(manifest, digest))
        self._stores.put(kind, response)
        context.writes += 1
        context.live[kind.name] = response
        self._metrics.writes.labels(kind.name, reason).inc()
        stored = store.get(key)
        if stored is not None:
            stored.synced_hash = digest
        logger.info("%s: %s %s %s", context.key, reason, kind.name, key.name)
        if reason == "repair":
            self._emit_events(
                context,
                "Repaired",
                f"Another client changed {kind.name} {key.name}. The operator restored its fields.",
            )

    async def _write_deletion_costs(self, context: _ReconcileContext, wanted: int) -> None:
        """Write pod deletion costs before the count falls, to select the pods to delete."""
        live = context.live[DEPLOYMENT.name]
        if live is ABSENT or live["spec"].get("replicas", 1) <= wanted:
            return
        pods, loads = self._stores.pods.of(context.key), self._scaling.loads(context.key)
        for cost in plan_deletion_costs(pods, loads, wanted):
            context.writes += await write_deletion_cost(
                self._api, self._stores, self._metrics, context.key.namespace, cost
            )

    async def _delete_unwanted(self, context: _ReconcileContext, wanted: set[str]) -> None:
        for kind in CHILD_KINDS:
            if kind.name in wanted:
                continue
            live = context.live.get(kind.name, ABSENT)
            if live is ABSENT or not _is_owned(live, context.resource.uid):
                continue
            delete = functools.partial(self._delete_child, context, kind, live)
            await self._attempt(context, ChildWrite(kind.name, "delete"), context.key.name, delete)

    async def _delete_child(
        self, context: _ReconcileContext, kind: Kind, live: Mapping[str, Any]
    ) -> None:
        await self._api.delete(kind, *context.key, uid=live["metadata"]["uid"])
        self._stores.remove(kind, dict(live))
        self._metrics.writes.labels(kind.name, "delete").inc()
        context.writes += 1

    async def _apply_status(
        self, context: _ReconcileContext, stored: StoredObject, status: Json
    ) -> None:
        if self._scaling.warming_up and context.resource.spec.autoscaling is not None:
            previous = with_previous_scaling(status, context.resource.status)
            if status_differs(previous, status):
                context.requeue_in(WARM_UP_SECONDS)
            status = previous
        before = context.resource.status
        if status_differs(status, before):
            context.writes += await self._write_status(context.key, stored, before, status)

    async def _write_unreadable_status(
        self, key: Key, stored: StoredObject, obj: Json, message: str
    ) -> str:
        """Write the status of a resource with an invalid spec; the outcome."""
        metadata, before = obj["metadata"], obj.get("status") or {}
        if metadata.get("deletionTimestamp"):
            return "unchanged"
        pods, generation = self._stores.pods.of(key), metadata.get("generation", 0)
        status = plan_unreadable_status(
            before, generation, pods, message, self._clock.to_wall_clock(self._clock.now())
        )
        if not status_differs(status, before):
            return "unchanged"
        return "updated" if await self._write_status(key, stored, before, status) else "unchanged"

    async def _write_status(
        self, key: Key, stored: StoredObject, before: Mapping[str, Any], status: Json
    ) -> bool:
        """Write the status and its Events; False if the resource was deleted."""
        # Events first: they stay visible if the status cannot be written.
        self._emit_condition_events(key, stored.uid, before, status)
        manifest = {
            "apiVersion": R1INFERENCE.api_version,
            "kind": R1INFERENCE.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": stored.uid},
            "status": status,
        }
        try:
            response = await self._api.apply(R1INFERENCE, *key, manifest, subresource="status")
        except NotFound:
            return False  # deleted: its event arrives later
        except KubeApiError:
            self._status_unwritten.add(key)
            raise
        if key in self._status_unwritten:
            self._status_unwritten.discard(key)
            self._child_backoff.retry_now(key, self._clock.now())
        self._metrics.writes.labels(R1INFERENCE.name, "status").inc()
        self._stores.put(R1INFERENCE, response)
        current = self._stores.resources.get(key)
        if current is not None and current.digest != stored.digest:
            self._enqueue(key)  # the response has a changed spec
        return True

    def _emit_condition_events(
        self, key: Key, uid: str, stored: Mapping[str, Any], status: Mapping[str, Any]
    ) -> None:
        before = _conditions(stored)
        for name, (value, reason, message) in _conditions(status).items():
            old = before.get(name, ("", "", ""))
            # Each message of a rejection counts: the next one names another field.
            each = reason in NOT_APPLIED_REASONS or name == "ModelNameConflict"
            if old == (value, reason, message) or (old[:2] == (value, reason) and not each):
                continue
            if name in ("Degraded", "ModelNameConflict") and value == "True":
                self._emit(EventSpec(key, uid, reason, message, warning=True))
            elif name == "Ready" and value == "True":
                self._emit(EventSpec(key, uid, reason, message))
            elif name == "ScalingLimited" and reason in UNMET:
                logger.warning("%s: limited (%s) %s", key, reason, message)
                self._emit(EventSpec(key, uid, reason, message, warning=True))

    def _emit_events(
        self, context: _ReconcileContext, reason: str, note: str, *, warning: bool = False
    ) -> None:
        self._emit(EventSpec(context.key, context.resource.uid, reason, note, warning=warning))


def _write_reason(
    manifest: Json, digest: str, live: Found, stored: StoredObject | None
) -> str | None:
    """The reason to write a child: create, change or repair; None without a difference."""
    if live is ABSENT:
        return "create"
    if stored is not None and stored.synced_hash == digest:
        return None
    annotations = live["metadata"].get("annotations") or {}
    if annotations.get(APPLIED) != digest:
        return "change"
    return "repair" if drift(manifest, live) else None


def _is_owned(live: Mapping[str, Any], uid: str) -> bool:
    owners = live["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid for owner in owners)


def _conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    stored = status.get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in stored}
