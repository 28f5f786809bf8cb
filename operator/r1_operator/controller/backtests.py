"""Controller of R1Backtests: run one Job at a time and write the status.

The controller is independent of that of R1Inferences: it has its own stores, queue and one worker, so
that neither delays the other. kopf watches the R1Backtests, reflectors their Jobs and pods. With one worker, no two backtests start at the same time: a
created Job is in the store before the next object is processed.

Absence is confirmed with a read, as for children: before the Job of a missing R1Backtest is deleted, and
before a missing Job counts as lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from r1_common.clock import PROCESS_CLOCK
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.backtest.spec import R1Backtest, parse_backtest
from r1_operator.api.fields.parsing import Invalid
from r1_operator.api.names import BacktestPhase, Label
from r1_operator.api.v1 import R1Inference, parse
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.reconcile.child_backoff import ChildBackoff, ChildWrite
from r1_operator.controller.reconcile.drift import manifest_hash
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.reflector import Reflector
from r1_operator.controller.workqueue import WorkQueue
from r1_operator.kube.backtest_store import BacktestStores
from r1_operator.kube.client import (
    Api,
    Conflict,
    KubeApiError,
    NotFound,
    NotLeader,
    RequestRefused,
)
from r1_operator.kube.events import EventSpec
from r1_operator.kube.kinds import JOB, POD, R1BACKTEST, R1INFERENCE, Json, Key
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.backtest.events import events_of
from r1_operator.plan.backtest.job import job_name
from r1_operator.plan.backtest.lifecycle import (
    FINAL,
    BacktestPlan,
    StartPlan,
    plan_backtest,
    plan_start,
    plan_unreadable_backtest,
)
from r1_operator.plan.backtest.observed import (
    BacktestObservation,
    BacktestReport,
    BacktestSite,
    Run,
    Waiting,
    read_report,
    read_run,
    read_waiting,
    waiting_without_pod,
)
from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.snapshot import WriteError

logger = logging.getLogger(__name__)


class BacktestController:
    """Reconciles R1Backtests; `run` it once and call `inference_changed` for changed resources."""

    def __init__(
        self,
        api: Api,
        inferences: Stores,
        *,
        site: BacktestSite,
        lead: Callable[[Key], LeadTime | None],
        emit: Callable[[EventSpec], None],
        liveness: Liveness,
        metrics: OperatorMetrics,
        now: Callable[[], float] = PROCESS_CLOCK.now,
    ) -> None:
        self._api = api
        self._inferences = inferences
        self._site = site
        self._lead = lead
        self._emit = emit
        self._metrics = metrics
        self._now = now
        self._backoff = ChildBackoff()
        self._stores = BacktestStores()
        self._queue: WorkQueue[Key] = WorkQueue()
        self.event_handler = EventHandler(
            self._stores, enqueue=self._queue.add, liveness=liveness, metrics=metrics
        )
        self._observed_at: dict[str, float] = {}
        """first observation of a state of a Job or pod, on the clock of this process"""
        self._backtests_by_inference: dict[Key, set[Key]] = {}
        """R1Backtests by the R1Inference that they test"""

    def inference_changed(self, key: Key) -> None:
        """Enqueue the backtests of a resource."""
        for backtest in self._backtests_by_inference.get(key, ()):
            self._queue.add(backtest)

    def find(self, key: Key) -> Json | Unavailable | None:
        """The R1Backtest of this name; None: does not exist; Unavailable: not listed yet."""
        store = self._stores.of(R1BACKTEST)
        if not store.complete.is_set():
            return Unavailable("NotRead", "The operator has not listed the R1Backtests yet.")
        stored = store.get(key)
        return None if stored is None else stored.load()

    async def run(self) -> None:
        """Watch Jobs and pods, and reconcile until cancelled.

        The events of R1Backtests come to `event_handler`; a relist completes their store.
        """
        home = (self._site.namespace,)
        async with asyncio.TaskGroup() as group:
            for kind in (JOB, POD):
                reflector = Reflector(
                    self._api, self.event_handler, kind, selector=Label.BACKTEST, namespaces=home
                )
                group.create_task(reflector.run())
            for kind in (R1BACKTEST, JOB, POD):
                await self._stores.of(kind).complete.wait()
            await self._inferences.of(R1INFERENCE).complete.wait()
            for key, _ in self._stores.all_of(JOB):
                self._queue.add(key)  # of R1Backtests that were deleted while no operator ran
            group.create_task(self._queue.run(1, self._reconcile))

    async def _reconcile(self, key: Key, _: float) -> float | None:
        """Reconcile one R1Backtest; seconds until it is requeued."""
        stored = self._stores.of(R1BACKTEST).get(key)
        if stored is None:
            await self._forget(key)
            return None
        try:
            backtest = parse_backtest(stored.load())
        except Invalid as error:  # possible for an object that is older than a stricter CRD
            await self._write_unreadable_status(key, stored.load(), str(error))
            return None
        if backtest.deleted_at is not None:
            return None
        inference_key = Key(key.namespace, backtest.spec.inference_name)
        self._backtests_by_inference.setdefault(inference_key, set()).add(key)
        try:
            await self._delete_jobs(key, keep=job_name(backtest))
        except NotLeader:
            raise
        except KubeApiError as error:  # an older Job must not delay the status
            logger.warning(
                "R1Backtest %s: the Job of an earlier object of this name was not deleted: %s",
                key,
                error,
            )
        observation = await self._observe(key, backtest)
        start = plan_start(observation)
        if start.job is not None:
            observation = await self._start(observation, dict(start.job))
        planned = plan_backtest(observation, start, self._now())
        await self._write_status(key, observation, start, planned)
        if planned.delete_job:
            await self._delete_jobs(key)
        self._emit_events(key, backtest.uid, backtest.status, planned.status)
        if planned.finished and backtest.status.get("phase") != planned.status["phase"]:
            logger.info("R1Backtest %s: %s", key, planned.status["conditions"][0]["message"])
            self._metrics.backtests_finished.labels(planned.status["phase"]).inc()
            self._enqueue_pending()
        if planned.delete:
            await self._api.delete(R1BACKTEST, *key, uid=backtest.uid)
            self._metrics.writes.labels(R1BACKTEST.name, "delete").inc()
            return None
        if observation.create_error is None and observation.read_error is None:
            self._backoff.forget(key)
            return planned.requeue_after
        return self._backoff.next_retry(key, self._now())

    async def _write_unreadable_status(self, key: Key, obj: Json, message: str) -> None:
        """Write the status of an object with an invalid spec."""
        metadata, before = obj["metadata"], obj.get("status") or {}
        if metadata.get("deletionTimestamp") or before.get("phase") in FINAL:
            return
        generation = metadata.get("generation", 0)
        status = plan_unreadable_backtest(before, generation, message, self._now())
        if not _same(status, before):
            self._emit_events(key, metadata["uid"], before, status)
            await self._apply_status(key, metadata["uid"], status)

    def _emit_events(
        self, key: Key, uid: str, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Emit Events for the changes of the status."""
        for event in events_of(before, after):
            self._emit(
                EventSpec(
                    key,
                    uid,
                    event.reason,
                    event.note,
                    action="Backtest",
                    warning=event.warning,
                    kind=R1BACKTEST,
                )
            )

    async def _observe(self, key: Key, backtest: R1Backtest) -> BacktestObservation:
        run, running_backtest, unread = None, None, None
        for owner, job in self._stores.all_of(JOB):
            candidate = read_run(job)
            if candidate.name == job_name(backtest):
                run = candidate
            elif candidate.ended_at is None:
                running_backtest = str(owner)
        if run is None and backtest.status.get("phase") == BacktestPhase.RUNNING:
            run, unread = await self._read_missing_job(key, backtest)
        answer, waiting = self._pod(run)
        if run is not None and run.ended_at is not None:
            run = replace(run, end_noticed_at=self._first_observed(f"{run.uid} ended"))
        if run is not None and waiting is not None:
            state = f"{run.uid} waits since {waiting.since}"  # an evicted pod gets a new state
            waiting = replace(waiting, since=self._first_observed(state))
        inference_key = Key(key.namespace, backtest.spec.inference_name)
        lead = self._lead(inference_key)
        return BacktestObservation(
            backtest,
            self._site,
            inference=self._inference(inference_key),
            run=run,
            report=answer,
            waiting=waiting,
            running_backtest=running_backtest,
            lead_seconds=None if lead is None or not lead.samples else lead.from_request_seconds,
            read_error=unread,
        )

    def _first_observed(self, state: str) -> float:
        """The time of the first observation of a state in this process.

        The timestamps of a Job come from the clock of another machine. After a restart of this process
        the full time is waited again.
        """
        if state not in self._observed_at and len(self._observed_at) > 1000:
            self._observed_at.clear()
        return self._observed_at.setdefault(state, self._now())

    def _inference(self, key: Key) -> R1Inference | None:
        stored = self._inferences.resources.get(key)
        try:
            return None if stored is None else parse(stored.load())
        except Invalid:  # its own reconcile reports the error
            return None

    def _pod(self, run: Run | None) -> tuple[BacktestReport | None, Waiting | None]:
        """The result and the waiting state of the newest pod of the Job; older pods were evicted."""
        pods = [
            pod
            for _, pod in self._stores.all_of(POD)
            if run is not None
            and run.uid in {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}
        ]
        if not pods:
            return None, None if run is None else waiting_without_pod(run)
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return read_report(newest), read_waiting(newest)

    async def _read_missing_job(
        self, key: Key, backtest: R1Backtest
    ) -> tuple[Run | None, str | None]:
        """Read a Job that is missing in the store; the Job, or the cause of a failed read."""
        request = ChildWrite(JOB.name, "read", job_name(backtest))
        if self._backoff.pause(key, request, self._now()) <= 0:
            try:
                run = await self._find_job(backtest)
            except NotLeader:
                raise
            except Exception as error:  # noqa: BLE001 (every error is reported in the status)
                self._record_failure(key, request, error)
            else:
                self._backoff.record_success(key, request)
                return run, None
        failure = self._backoff.last_failure(key, request)
        return None, "" if failure is None else failure.message

    def _record_failure(self, key: Key, request: ChildWrite, error: Exception) -> None:
        expected = isinstance(error, KubeApiError)
        detail = (
            error.detail if isinstance(error, KubeApiError) else f"{type(error).__name__}: {error}"
        )
        refusal = WriteError(
            JOB.name, key.name, detail, temporary=not isinstance(error, RequestRefused)
        )
        delay = self._backoff.record_failure(key, request, refusal, self._now())
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "R1Backtest %s: %s of its Job failed, retrying in %.1f s: %s",
            key,
            request.verb,
            delay,
            error,
            exc_info=None if expected else error,
        )

    async def _find_job(self, backtest: R1Backtest) -> Run | None:
        job = await self._api.get(JOB, self._site.namespace, job_name(backtest))
        if job is None:
            return None
        self._stores.put(JOB, job)
        return read_run(job)

    async def _start(self, observation: BacktestObservation, job: Json) -> BacktestObservation:
        """Create the Job, unless its backoff has not elapsed; the new observation."""
        key = Key(observation.backtest.namespace, observation.backtest.name)
        request = ChildWrite(JOB.name, "create", manifest_hash(job))
        if self._backoff.pause(key, request, self._now()) <= 0:
            try:
                created = await self._create(observation, job)
            except NotLeader:
                raise
            except Exception as error:  # noqa: BLE001 (every error is reported in the status)
                self._record_failure(key, request, error)
            else:
                self._backoff.record_success(key, request)
                return created
        failure = self._backoff.last_failure(key, request)
        if failure is None:
            return observation
        return replace(
            observation, create_error=failure.message, create_error_temporary=failure.temporary
        )

    async def _create(self, observation: BacktestObservation, job: Json) -> BacktestObservation:
        try:
            created = await self._api.create(JOB, self._site.namespace, job)
        except Conflict:  # it exists, and its event arrives later
            run = await self._find_job(observation.backtest)
            return (
                replace(observation, run=run)
                if run
                else replace(observation, running_backtest=observation.backtest.key)
            )
        self._metrics.writes.labels(JOB.name, "create").inc()
        self._stores.put(JOB, created)
        return replace(observation, run=read_run(created))

    async def _write_status(
        self, key: Key, observation: BacktestObservation, start: StartPlan, planned: BacktestPlan
    ) -> None:
        if _same(planned.status, observation.backtest.status):
            return
        try:
            await self._apply_status(key, observation.backtest.uid, planned.status)
        except RequestRefused as error:
            # The CRD rejects the verdict, because the image has another version.
            if not planned.status.get("verdict") or observation.report is None:
                raise
            logger.warning("R1Backtest %s: the API server rejected the verdict: %s", key, error)
            unread = replace(observation, report=replace(observation.report, message=""))
            status = plan_backtest(unread, start, self._now()).status
            await self._apply_status(key, observation.backtest.uid, status)

    async def _apply_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        manifest = {
            "apiVersion": R1BACKTEST.api_version,
            "kind": R1BACKTEST.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": dict(status),
        }
        try:
            response = await self._api.apply(R1BACKTEST, *key, manifest, subresource="status")
        except (NotFound, Conflict):
            return  # deleted or recreated: its event arrives later
        self._metrics.writes.labels(R1BACKTEST.name, "status").inc()
        self._stores.put(R1BACKTEST, response)

    async def _forget(self, key: Key) -> None:
        """Delete the Job of a deleted R1Backtest; owner references cannot cross namespaces."""
        live = await self._api.get(R1BACKTEST, *key)
        if live is not None:
            if self._stores.put(R1BACKTEST, live) is not None:
                self._queue.add(key)
            return
        self._backoff.forget(key)
        for backtests in self._backtests_by_inference.values():
            backtests.discard(key)
        await self._delete_jobs(key)

    async def _delete_jobs(self, key: Key, keep: str = "") -> None:
        """Delete all Jobs of R1Backtests of this name, except the Job `keep`."""
        for owner, job in self._stores.all_of(JOB):
            metadata = job["metadata"]
            if owner != key or metadata["name"] == keep or metadata.get("deletionTimestamp"):
                continue
            namespace, name = metadata["namespace"], metadata["name"]
            await self._api.delete(JOB, namespace, name, uid=metadata["uid"])
            self._metrics.writes.labels(JOB.name, "delete").inc()
            self._stores.remove(JOB, job)
            logger.info("R1Backtest %s: deleted Job %s", key, name)
            self._enqueue_pending()

    def _enqueue_pending(self) -> None:
        """Enqueue the pending R1Backtests, oldest first."""
        waiting = [
            (obj["metadata"]["creationTimestamp"], key)
            for key, obj in self._stores.all_of(R1BACKTEST)
            if (obj.get("status") or {}).get("phase") == BacktestPhase.PENDING
        ]
        for _, key in sorted(waiting):
            self._queue.add(key)


def _same(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    return _comparable(wanted) == _comparable(live)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    return {**status, "conditions": conditions}
