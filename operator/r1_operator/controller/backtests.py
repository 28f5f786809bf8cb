"""R1Backtests: watched, brought to a Job each, one at a time, and their status kept.

Beside the loop of R1Inferences and independent of it: views, mirrors, a queue and one worker of its
own, so that neither holds up the other. One worker also means that no two backtests are started at the
same time: a Job that was just made is in the view before the next object is looked at.

Absence is confirmed before it is acted upon, as for children: an object that the view does not have is
asked for by name before its Job is deleted, and so is a Job before its run is called lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from r1_common.clock import PROCESS_CLOCK
from r1_operator.api.backtest import R1Backtest, parse_backtest
from r1_operator.api.names import BacktestPhase, Label
from r1_operator.api.parsing import Invalid
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
    NotLeading,
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
    plan_backtest,
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
from r1_operator.plan.unavailable import Unavailable

logger = logging.getLogger(__name__)


class Backtests:
    """Everything about R1Backtests; `run` it once, and tell it of resources that change."""

    def __init__(
        self,
        api: Api,
        inferences: Stores,
        *,
        site: BacktestSite,
        namespaces: Sequence[str],
        lead: Callable[[Key], LeadTime | None],
        tell: Callable[[EventSpec], None],
        liveness: Liveness,
        metrics: OperatorMetrics,
        now: Callable[[], float] = PROCESS_CLOCK.now,
    ) -> None:
        self._api = api
        self._inferences = inferences
        self._site = site
        self._namespaces = namespaces
        self._lead = lead
        self._tell = tell
        self._metrics = metrics
        self._now = now
        self._backoff = ChildBackoff()
        self._views = BacktestStores()
        self._queue: WorkQueue[Key] = WorkQueue()
        self._intake = EventHandler(
            self._views, enqueue=self._queue.add, liveness=liveness, metrics=metrics
        )
        self._noticed: dict[str, float] = {}
        """When a state of a Job or pod was first observed, by this process' clock."""
        self._asking: dict[Key, set[Key]] = {}
        """Which backtests name a resource."""

    def inference_changed(self, key: Key) -> None:
        """Look again at the backtests of a resource."""
        for backtest in self._asking.get(key, ()):
            self._queue.add(backtest)

    def find(self, key: Key) -> Json | Unavailable | None:
        """The R1Backtest of that name; None: there is none; Unavailable: nobody has listed them."""
        view = self._views.of(R1BACKTEST)
        if not view.complete.is_set():
            return Unavailable("NotRead", "R1Backtests have not been read yet.")
        stored = view.get(key)
        return None if stored is None else stored.load()

    async def run(self) -> None:
        """Watch and act for ever."""
        home = (self._site.namespace,)
        mirrors = (
            Reflector(
                self._api, self._intake, R1BACKTEST, selector="", namespaces=self._namespaces
            ),
            Reflector(self._api, self._intake, JOB, selector=Label.BACKTEST, namespaces=home),
            Reflector(self._api, self._intake, POD, selector=Label.BACKTEST, namespaces=home),
        )
        async with asyncio.TaskGroup() as group:
            for mirror in mirrors:
                group.create_task(mirror.run())
            for kind in (R1BACKTEST, JOB, POD):
                await self._views.of(kind).complete.wait()
            await self._inferences.of(R1INFERENCE).complete.wait()
            for key, _ in self._views.all_of(JOB):
                self._queue.add(key)  # of objects that went while nobody watched
            group.create_task(self._queue.run(1, self._reconcile))

    async def _reconcile(self, key: Key, _: float) -> float | None:
        """Bring one object to what is due; seconds until it wants to be looked at again."""
        stored = self._views.of(R1BACKTEST).get(key)
        if stored is None:
            await self._forget(key)
            return None
        try:
            backtest = parse_backtest(stored.load())
        except Invalid as error:  # only an object from before a stricter CRD gets here
            await self._show_unreadable(key, stored.load(), str(error))
            return None
        if backtest.deleted_at is not None:
            return None
        asks = Key(key.namespace, backtest.spec.inference_name)
        self._asking.setdefault(asks, set()).add(key)
        try:
            await self._delete_jobs(key, but=job_name(backtest))
        except NotLeading:
            raise
        except KubeApiError as error:  # of an older object of this name: the status does not wait
            logger.warning("R1Backtest %s: an older Job is still there: %s", key, error)
        seen = await self._seen(key, backtest)
        planned = plan_backtest(seen, self._now())
        if planned.job is not None:
            seen = await self._start(seen, dict(planned.job))
            planned = plan_backtest(seen, self._now())
        await self._write_status(key, seen, planned)
        if planned.delete_job:
            await self._delete_jobs(key)
        self._tell_of(key, backtest.uid, backtest.status, planned.status)
        if planned.finished and backtest.status.get("phase") != planned.status["phase"]:
            logger.info("R1Backtest %s: %s", key, planned.status["conditions"][0]["message"])
            self._metrics.backtests_finished.labels(planned.status["phase"]).inc()
            self._wake_waiting()
        if planned.delete:
            await self._api.delete(R1BACKTEST, *key, uid=backtest.uid)
            self._metrics.writes.labels(R1BACKTEST.name, "delete").inc()
            return None
        if seen.create_error is None and seen.read_error is None:
            self._backoff.forget(key)
            return planned.requeue_after
        return self._backoff.next_try(key, self._now())

    async def _show_unreadable(self, key: Key, obj: Json, message: str) -> None:
        """Write what can be said of an object whose spec cannot be read."""
        metadata, before = obj["metadata"], obj.get("status") or {}
        if metadata.get("deletionTimestamp") or before.get("phase") in FINAL:
            return
        generation = metadata.get("generation", 0)
        status = plan_unreadable_backtest(before, generation, message, self._now())
        if not _same(status, before):
            self._tell_of(key, metadata["uid"], before, status)
            await self._apply_status(key, metadata["uid"], status)

    def _tell_of(
        self, key: Key, uid: str, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> None:
        """Events, of what the stored status did not say yet."""
        for news in events_of(before, after):
            self._tell(
                EventSpec(
                    key,
                    uid,
                    news.reason,
                    news.note,
                    action="Backtest",
                    warning=news.warning,
                    kind=R1BACKTEST,
                )
            )

    async def _seen(self, key: Key, backtest: R1Backtest) -> BacktestObservation:
        run, running_backtest, unread = None, None, None
        for owner, job in self._views.all_of(JOB):
            found = read_run(job)
            if found.name == job_name(backtest):
                run = found
            elif found.ended_at is None:
                running_backtest = str(owner)
        if run is None and backtest.status.get("phase") == BacktestPhase.RUNNING:
            run, unread = await self._look_for_job(key, backtest)
        answer, waiting = self._pod(run)
        if run is not None and run.ended_at is not None:
            run = replace(run, end_noticed_at=self._first_noticed(f"{run.uid} ended"))
        if run is not None and waiting is not None:
            state = f"{run.uid} waits since {waiting.since}"  # one that was evicted is made again
            waiting = replace(waiting, since=self._first_noticed(state))
        asks = Key(key.namespace, backtest.spec.inference_name)
        lead = self._lead(asks)
        return BacktestObservation(
            backtest,
            self._site,
            inference=self._inference(asks),
            run=run,
            report=answer,
            waiting=waiting,
            running_backtest=running_backtest,
            lead_seconds=None if lead is None or not lead.samples else lead.from_request_seconds,
            read_error=unread,
        )

    def _first_noticed(self, state: str) -> float:
        """When this state was first observed here.

        A Job's own timestamps come from another machine's clock, and after a restart of this process
        the whole time is waited again.
        """
        if state not in self._noticed and len(self._noticed) > 1000:
            self._noticed.clear()
        return self._noticed.setdefault(state, self._now())

    def _inference(self, key: Key) -> R1Inference | None:
        stored = self._inferences.resources.get(key)
        try:
            return None if stored is None else parse(stored.load())
        except Invalid:  # its own reconcile says so
            return None

    def _pod(self, run: Run | None) -> tuple[BacktestReport | None, Waiting | None]:
        """What the newest pod of the Job says: one that was evicted may have come before it."""
        pods = [
            pod
            for _, pod in self._views.all_of(POD)
            if run is not None
            and run.uid in {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}
        ]
        if not pods:
            return None, None if run is None else waiting_without_pod(run)
        newest = max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return read_report(newest), read_waiting(newest)

    async def _look_for_job(self, key: Key, backtest: R1Backtest) -> tuple[Run | None, str | None]:
        """A Job that the view does not have, or why it could not be asked for."""
        request = ChildWrite(JOB.name, "read", job_name(backtest))
        if self._backoff.pause(key, request, self._now()) <= 0:
            try:
                run = await self._find_job(backtest)
            except NotLeading:
                raise
            except Exception as error:  # noqa: BLE001 (whatever it was: the status is written)
                self._note_failure(key, request, error)
            else:
                self._backoff.succeeded(key, request)
                return run, None
        failure = self._backoff.failure(key, request)
        return None, "" if failure is None else failure.message

    def _note_failure(self, key: Key, request: ChildWrite, error: Exception) -> None:
        known = isinstance(error, KubeApiError)
        words = (
            error.detail if isinstance(error, KubeApiError) else f"{type(error).__name__}: {error}"
        )
        refusal = WriteError(
            JOB.name, key.name, words, temporary=not isinstance(error, RequestRefused)
        )
        delay = self._backoff.failed(key, request, refusal, self._now())
        logger.log(
            logging.WARNING if known else logging.ERROR,
            "R1Backtest %s: %s of its Job failed, again in %.1f s: %s",
            key,
            request.verb,
            delay,
            error,
            exc_info=None if known else error,
        )

    async def _find_job(self, backtest: R1Backtest) -> Run | None:
        found = await self._api.get(JOB, self._site.namespace, job_name(backtest))
        if found is None:
            return None
        self._views.put(JOB, found)
        return read_run(found)

    async def _start(self, seen: BacktestObservation, job: Json) -> BacktestObservation:
        """Make the Job, unless it failed a moment ago; what is seen then."""
        key = Key(seen.backtest.namespace, seen.backtest.name)
        request = ChildWrite(JOB.name, "create", manifest_hash(job))
        if self._backoff.pause(key, request, self._now()) <= 0:
            try:
                made = await self._create(seen, job)
            except NotLeading:
                raise
            except Exception as error:  # noqa: BLE001 (whatever it was: the status is written)
                self._note_failure(key, request, error)
            else:
                self._backoff.succeeded(key, request)
                return made
        failure = self._backoff.failure(key, request)
        if failure is None:
            return seen
        return replace(seen, create_error=failure.message, create_error_temporary=failure.temporary)

    async def _create(self, seen: BacktestObservation, job: Json) -> BacktestObservation:
        try:
            made = await self._api.create(JOB, self._site.namespace, job)
        except Conflict:  # it is there, and its event is on the way
            run = await self._find_job(seen.backtest)
            return (
                replace(seen, run=run) if run else replace(seen, running_backtest=seen.backtest.key)
            )
        self._metrics.writes.labels(JOB.name, "create").inc()
        self._views.put(JOB, made)
        return replace(seen, run=read_run(made))

    async def _write_status(
        self, key: Key, seen: BacktestObservation, planned: BacktestPlan
    ) -> None:
        if _same(planned.status, seen.backtest.status):
            return
        try:
            await self._apply_status(key, seen.backtest.uid, planned.status)
        except RequestRefused as error:
            # A verdict in a shape that this CRD does not take: of an image of another version.
            if not planned.status.get("verdict") or seen.report is None:
                raise
            logger.warning("R1Backtest %s: %s", key, error)
            unread = replace(seen, report=replace(seen.report, message=""))
            status = plan_backtest(unread, self._now()).status
            await self._apply_status(key, seen.backtest.uid, status)

    async def _apply_status(self, key: Key, uid: str, status: Mapping[str, Any]) -> None:
        manifest = {
            "apiVersion": R1BACKTEST.api_version,
            "kind": R1BACKTEST.name,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": dict(status),
        }
        try:
            answer = await self._api.apply(R1BACKTEST, *key, manifest, subresource="status")
        except (NotFound, Conflict):
            return  # deleted, or made anew, meanwhile: its event is on the way
        self._metrics.writes.labels(R1BACKTEST.name, "status").inc()
        self._views.put(R1BACKTEST, answer)

    async def _forget(self, key: Key) -> None:
        """An object that went: its Job goes too, no owner reference crosses namespaces."""
        found = await self._api.get(R1BACKTEST, *key)
        if found is not None:
            if self._views.put(R1BACKTEST, found) is not None:
                self._queue.add(key)
            return
        self._backoff.forget(key)
        for backtests in self._asking.values():
            backtests.discard(key)
        await self._delete_jobs(key)

    async def _delete_jobs(self, key: Key, but: str = "") -> None:
        """Delete the Jobs of objects of this name, `but` that of the present one."""
        for owner, job in self._views.all_of(JOB):
            metadata = job["metadata"]
            if owner != key or metadata["name"] == but or metadata.get("deletionTimestamp"):
                continue
            namespace, name = metadata["namespace"], metadata["name"]
            await self._api.delete(JOB, namespace, name, uid=metadata["uid"])
            self._metrics.writes.labels(JOB.name, "delete").inc()
            self._views.remove(JOB, job)
            logger.info("R1Backtest %s: deleted its Job %s", key, name)
            self._wake_waiting()

    def _wake_waiting(self) -> None:
        """It is the next one's turn: the oldest first."""
        waiting = [
            (obj["metadata"]["creationTimestamp"], key)
            for key, obj in self._views.all_of(R1BACKTEST)
            if (obj.get("status") or {}).get("phase") == BacktestPhase.PENDING
        ]
        for _, key in sorted(waiting):
            self._queue.add(key)


def _same(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    return _comparable(wanted) == _comparable(live)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    return {**status, "conditions": conditions}
