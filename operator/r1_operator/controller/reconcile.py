"""One resource: observe it, plan it, apply what differs. Create, update, repair and restart are this.

Zero writes when settled: a child is written when the manifest it was applied with is another one
(its hash is in an annotation) or when one of our fields in it no longer says what we want. What was
found settled once is remembered by the view until the object changes.

Absence is confirmed before it is acted upon: the views see only what carries our label, and a watch
may be late, so a child that is missing there is asked for by name before it is made. That keeps us
from taking over a stranger's object, and from resetting the count of a Deployment not yet seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from r1_common.clock import PROCESS_CLOCK, AnchoredClock
from r1_operator.api.parsing import Invalid
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.controller.drift import APPLIED, drift, manifest_hash, with_hash
from r1_operator.controller.fights import Fights
from r1_operator.controller.scaling_loop import WARM_UP_SECONDS, ScalingLoop
from r1_operator.controller.statuses import carried_over, status_differs
from r1_operator.controller.victims import write_deletion_cost
from r1_operator.kube.client import Api, ApiError, Busy, Conflict, NotFound, Refused, Unreachable
from r1_operator.kube.events import Notice
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
from r1_operator.kube.views import Stored, Views
from r1_operator.metrics import Metrics
from r1_operator.plan.decision import UNMET
from r1_operator.plan.snapshot import ABSENT, Defaults, Found, Observed, Refusal
from r1_operator.plan.status import plan_status
from r1_operator.plan.victims import plan_deletion_costs
from r1_operator.plan.whole import plan

logger = logging.getLogger(__name__)

_BLOCKED_SECONDS = 10.0


@dataclass(slots=True)
class _Round:
    """One reconcile: what was found, and what became of it."""

    key: Key
    resource: R1Inference
    live: dict[str, Found] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    failures: list[ApiError] = field(default_factory=list)
    writes: int = 0
    again: float | None = None

    def look_again_in(self, seconds: float) -> None:
        """Want another reconcile after so many seconds, or earlier."""
        self.again = seconds if self.again is None else min(self.again, seconds)


class Reconciler:
    """`reconcile` is what the work queue's workers do."""

    def __init__(
        self,
        api: Api,
        views: Views,
        scaling: ScalingLoop,
        *,
        defaults: Defaults,
        has_service_monitors: Callable[[], bool],
        enqueue: Callable[[Key], None],
        tell: Callable[[Notice], None],
        metrics: Metrics,
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
        self._fights = Fights()

    async def reconcile(self, key: Key, waited: float) -> float | None:
        """Bring one resource to what its spec asks; seconds until it wants to be looked at again."""
        self._metrics.queue_wait.observe(waited)
        try:
            with self._metrics.reconcile.time():
                writes, again = await self._reconcile(key)
        except Exception:
            self._metrics.reconciles.labels("failed").inc()
            raise
        self._metrics.reconciles.labels("written" if writes else "settled").inc()
        return again

    async def _reconcile(self, key: Key) -> tuple[int, float | None]:
        stored = self._views.resources.get(key)
        if stored is None:
            self._scaling.forget(key)
            return 0, None
        obj = stored.load()
        try:
            resource = parse(obj)
        except Invalid as error:
            # Only an object from before a stricter CRD gets here; its children stay as they are.
            self._tell(Notice(key, stored.uid, "InvalidSpec", str(error), warning=True))
            return 0, None
        if resource.deleted_at is not None:
            return 0, None  # the garbage collector takes the children
        this = _Round(key, resource)
        for kind, name in self._child_names(key):
            this.live[kind.name] = await self._find(kind, Key(key.namespace, name), resource.uid)
        observed, decision = self._observed(this), self._scaling.follow(key, resource)
        planned = plan(observed, decision, self._clock.now())
        try:
            for manifest in planned.children:
                try:
                    await self._apply_child(this, manifest)
                except (Busy, Conflict, Unreachable) as error:
                    this.failures.append(error)  # the others need not wait for this one
            if this.failures:
                raise this.failures[0]
            if planned.problem is None:
                await self._delete_unwanted(this, {one["kind"] for one in planned.children})
        except NotFound:
            return this.writes, None  # the namespace went away under us, and the resource with it
        status = planned.status
        if this.writes or this.refusals:
            status = plan_status(
                self._observed(this), decision, self._clock.now(), unplannable=planned.problem
            )
        await self._apply_status(this, stored, status)
        if planned.problem is not None or this.refusals:
            # What is in the way may be no object of ours, so no watch tells when it is gone.
            this.look_again_in(_BLOCKED_SECONDS)
        if planned.look_again is not None:
            this.look_again_in(planned.look_again)
        return this.writes, this.again

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
            refusals=tuple(this.refusals),
            wall_offset=self._clock.wall_offset(),
        )

    async def _apply_child(self, this: _Round, manifest: Json) -> None:
        kind = BY_NAME[manifest["kind"]]
        key = Key(this.key.namespace, manifest["metadata"]["name"])
        live = this.live[kind.name]
        view = self._views.children[kind.name]
        digest, stored = manifest_hash(manifest), view.get(key)
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
        try:
            answer = await self._api.apply(kind, *key, with_hash(manifest, digest))
        except Refused as error:
            this.refusals.append(Refusal(kind.name, key.name, str(error)))
            return
        this.writes += 1
        this.live[kind.name] = answer
        self._metrics.writes.labels(kind.name, why).inc()
        self._views.put(kind, answer)
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
            metadata = live["metadata"]
            await self._api.delete(kind, *this.key, uid=metadata["uid"])
            self._views.remove(kind, dict(live))
            self._metrics.writes.labels(kind.name, "delete").inc()
            this.writes += 1

    async def _apply_status(self, this: _Round, stored: Stored, status: Json) -> None:
        if self._scaling.warming_up and this.resource.spec.autoscaling is not None:
            kept = carried_over(status, this.resource.status)
            if status_differs(kept, status):
                this.look_again_in(WARM_UP_SECONDS)
            status = kept
        if status_differs(status, this.resource.status):
            await self._write_status(this, stored, status)

    async def _write_status(self, this: _Round, stored: Stored, status: Json) -> None:
        manifest = {
            "apiVersion": R1INFERENCE.api_version,
            "kind": R1INFERENCE.name,
            "metadata": {
                "name": this.key.name,
                "namespace": this.key.namespace,
                "uid": this.resource.uid,
            },
            "status": status,
        }
        try:
            answer = await self._api.apply(R1INFERENCE, *this.key, manifest, subresource="status")
        except NotFound:
            return  # deleted meanwhile: its event is on the way
        this.writes += 1
        self._metrics.writes.labels(R1INFERENCE.name, "status").inc()
        self._views.put(R1INFERENCE, answer)
        now_stored = self._views.resources.get(this.key)
        if now_stored is not None and now_stored.digest != stored.digest:
            self._enqueue(this.key)  # the answer brought a change of the spec with it
        self._tell_of_conditions(this, status)

    def _tell_of_conditions(self, this: _Round, status: Mapping[str, Any]) -> None:
        before = _conditions(this.resource.status)
        for name, (value, reason, message) in _conditions(status).items():
            if before.get(name, ("", "", ""))[:2] == (value, reason):
                continue
            if name == "Degraded" and value == "True":
                self._tell_of(this, reason, message, warning=True)
            elif name == "Ready" and value == "True":
                self._tell_of(this, reason, message)
            elif name == "ScalingLimited" and reason in UNMET:
                logger.warning("%s: limited (%s) %s", this.key, reason, message)
                self._tell_of(this, reason, message, warning=True)

    def _tell_of(self, this: _Round, reason: str, note: str, *, warning: bool = False) -> None:
        self._tell(Notice(this.key, this.resource.uid, reason, note, warning=warning))


def _why(manifest: Json, digest: str, live: Found, stored: Stored | None) -> str | None:
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
