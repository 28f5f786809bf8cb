"""The operator process: standby, leader, and exit after the loss of the Lease.

A standby serves probes and waits for the Lease; it watches nothing. The leader watches, reconciles and
decides. The loss of the Lease ends the process, and its restart makes it a standby with empty
stores.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from r1_operator.api.serving import ModelSource
from r1_operator.controller.backtests import BacktestController
from r1_operator.controller.liveness import Liveness
from r1_operator.controller.reconcile.reconciler import Reconciler
from r1_operator.controller.scaling.decision_history import DecisionHistory
from r1_operator.controller.scaling.scaling_loop import ScalingLoop
from r1_operator.controller.scaling.scaling_metrics import ScalingCollector
from r1_operator.controller.server import OperatorServer
from r1_operator.controller.watch.event_handler import EventHandler
from r1_operator.controller.watch.relist import Relist
from r1_operator.controller.watch.service_monitors import ServiceMonitors
from r1_operator.controller.watch.wiring import WATCHED, watch
from r1_operator.controller.workqueue import WorkQueue
from r1_operator.kube.client import Api, KubeApiError, NotFound
from r1_operator.kube.events import EventWriter
from r1_operator.kube.kinds import (
    CUSTOM_RESOURCES,
    R1BACKTEST,
    R1INFERENCE,
    SERVICE_MONITOR,
    Key,
    Kind,
)
from r1_operator.kube.lease import LeaderElector, LeaseLost
from r1_operator.kube.store import Stores
from r1_operator.metrics import OperatorMetrics
from r1_operator.plan.backtest.observed import BacktestSite
from r1_operator.plan.scaling.limits.budgets import ceilings_of
from r1_operator.plan.snapshot import Defaults
from r1_operator.settings import OperatorSettings
from r1_operator.sources.external import ExternalMetrics
from r1_operator.sources.forecast import ForecastClient
from r1_operator.sources.gateways import GatewayDirectory
from r1_operator.sources.nodes import Nodes
from r1_operator.sources.signals import GatewaySignals

logger = logging.getLogger(__name__)


class Manager:
    """Builds and runs the parts of one operator process."""

    def __init__(self, settings: OperatorSettings, api: Api) -> None:
        self.settings = settings
        self.api = api
        self.metrics = OperatorMetrics()
        self.stores = Stores()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.decision_history = DecisionHistory()
        self.liveness = Liveness(silent_seconds=settings.silent_watch_seconds)
        self.event_handler = EventHandler(
            self.stores, enqueue=self._enqueue, liveness=self.liveness, metrics=self.metrics
        )
        self.monitors = ServiceMonitors(
            api,
            self.event_handler,
            enabled=settings.service_monitors,
            namespaces=settings.namespaces,
            period_seconds=settings.relist_seconds,
            on_change=self._enqueue_all,
        )
        self.stop = asyncio.Event()
        self.synced = asyncio.Event()
        """Set once the first listing is complete and all its objects are reconciled."""
        self._active = settings.dev
        self.elector = LeaderElector(
            api,
            namespace=settings.own_namespace,
            name=settings.lease_name,
            identity=settings.identity,
            lease_seconds=settings.lease_seconds,
            renew_seconds=settings.renew_seconds,
        )
        self.events = EventWriter(api, identity=settings.identity)
        directory = GatewayDirectory(
            api, service=settings.gateway_service, urls=settings.gateway_urls
        )
        token_file = settings.gateway_token_file
        self.signals = GatewaySignals(
            directory, token_file=Path(token_file) if token_file else None
        )
        self.forecaster = ForecastClient(settings.forecaster_url)
        prometheus = settings.prometheus()
        self.external = ExternalMetrics(prometheus)
        self.nodes = Nodes(api)
        defaults = Defaults(
            runtime_image=settings.default_image,
            runtime_gpu_image=settings.default_gpu_image,
            model_source=ModelSource(bundled=settings.default_model),
            image_pull_policy=settings.image_pull_policy,
            template=json.loads(settings.model_pod_template),
            monitor_interval=settings.service_monitor_interval,
            monitor_labels=json.loads(settings.service_monitor_labels),
            accelerators=settings.accelerators,
        )
        self.scaling = ScalingLoop(
            self.stores,
            self.signals,
            self.forecaster,
            self.external,
            self.nodes,
            self.decision_history,
            enqueue=self.queue.add,
            emit=self.events.emit,
            metrics=self.metrics,
            decision_seconds=settings.decision_seconds,
            min_rate_seconds=prometheus.rate_seconds(settings.min_rate_seconds),
            backtest=lambda key: self.backtests.find(key),
            ceilings=lambda spec: ceilings_of(spec, defaults),
        )
        self.reconciler = Reconciler(
            api,
            self.stores,
            self.scaling,
            defaults=defaults,
            has_service_monitors=lambda: self.monitors.served,
            enqueue=self.queue.add,
            emit=self.events.emit,
            metrics=self.metrics,
        )
        self.backtests = BacktestController(
            api,
            self.stores,
            site=BacktestSite(
                settings.own_namespace,
                settings.backtest_image,
                settings.prometheus_url,
                json.loads(settings.backtest_template),
                defaults,
                settings.prometheus_client,
            ),
            lead=self.scaling.lead,
            emit=self.events.emit,
            liveness=self.liveness,
            metrics=self.metrics,
        )
        self.server = OperatorServer(
            liveness=self.liveness,
            metrics=self.metrics,
            decisions=self.decision_history,
            is_active=lambda: self._active,
            exists=lambda key: self.stores.resources.get(key) is not None,
        )
        self.metrics.registry.register(ScalingCollector(self.scaling.registered))
        self.metrics.resources.set_function(lambda: len(self.stores.resources))
        self.metrics.queue_length.set_function(lambda: len(self.queue))

    async def run(self) -> None:
        """Run as standby, then as leader, until `stop` is set.

        Raises:
            LeaseLost: another process may be the leader now.
        """
        await self.server.start(self.settings.http_host, self.settings.http_port)
        try:
            if self.settings.dev:
                await self._until_stopped(self._run_as_leader)
            else:
                await self._until_stopped(self.elector.acquire)
                if not self.stop.is_set():
                    self.api.may_write = lambda: self.elector.is_held
                    try:
                        await self._until_stopped(self._run_as_leader)
                    finally:
                        self._active = False
                        await self.elector.release()
        finally:
            self._active = False
            await self.signals.close()
            await self.forecaster.close()
            await self.external.close()
            await self.nodes.close()
            await self.server.stop()

    async def _until_stopped(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` until it returns or `stop` is set; raises its error."""
        task = asyncio.create_task(work())
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            for each in (task, stopping):
                each.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _run_as_leader(self) -> None:
        self._active = True
        self.metrics.is_leader.set(1)
        self.liveness.heartbeat()
        await self._wait_for_crd()
        try:
            async with asyncio.TaskGroup() as group:
                if not self.settings.dev:
                    group.create_task(self.elector.renew())
                group.create_task(self._watch(), name="watch")
                group.create_task(self._relist().run(), name="relist")
                group.create_task(self.monitors.run(), name="service monitors")
                group.create_task(self.events.run(), name="events")
                group.create_task(self._work(), name="work")
                group.create_task(self.backtests.run(), name="backtests")
        except* LeaseLost as lost:
            raise lost.exceptions[0] from None
        finally:
            self.metrics.is_leader.set(0)

    def _enqueue(self, key: Key) -> None:
        self.queue.add(key)
        self.backtests.inference_changed(key)

    def _enqueue_all(self) -> None:
        for key in list(self.stores.resources.objects):
            self.queue.add(key)

    async def _watch(self) -> None:
        await watch(self.api, self._handler_of, namespaces=self.settings.namespaces, stop=self.stop)
        self.stop.set()  # kopf handles SIGTERM and SIGINT while it runs

    def _handler_of(self, kind: Kind) -> EventHandler:
        return self.backtests.event_handler if kind == R1BACKTEST else self.event_handler

    def _relisted(self) -> tuple[Kind, ...]:
        kinds = (*WATCHED, R1BACKTEST)
        return (*kinds, SERVICE_MONITOR) if self.monitors.served else kinds

    def _relist(self) -> Relist:
        return Relist(
            self.api,
            self._handler_of,
            kinds=self._relisted,
            initial_kinds=CUSTOM_RESOURCES,
            namespaces=self.settings.namespaces,
            liveness=self.liveness,
            metrics=self.metrics,
            period_seconds=self.settings.relist_seconds,
        )

    async def _work(self) -> None:
        """Wait until every store is complete; then reconcile and decide."""
        for kind in WATCHED:
            await self.stores.of(kind).complete.wait()
        await self.monitors.check()
        logger.info("stores are complete: %d R1Inferences", len(self.stores.resources))
        await self.scaling.prime()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._log_synced())
            group.create_task(self.scaling.run())
            group.create_task(self.queue.run(self.settings.workers, self.reconciler.reconcile))

    async def _log_synced(self) -> None:
        await self.queue.wait_idle()
        self.synced.set()
        logger.info("all R1Inferences are reconciled after %d writes", self.api.log.writes)

    async def _wait_for_crd(self) -> None:
        namespace = self.settings.namespaces[0] if self.settings.namespaces else None
        while True:
            try:
                async for _ in self.api.list_pages(R1INFERENCE, namespace, page_size=1):
                    return
            except NotFound:
                logger.warning(
                    "the CRD of R1Inference is not installed, retrying every 2 s: install the chart, or"
                    " r1 crd | kubectl apply --server-side -f -"
                )
            except KubeApiError as error:
                logger.warning("the API server is not available, retrying every 2 s: %s", error)
            await asyncio.sleep(2.0)


async def run_operator(settings: OperatorSettings) -> int:
    """Run until a signal or the loss of the Lease; the exit code."""
    async with await Api.connect(max_concurrent=settings.max_concurrent_requests) as api:
        manager = Manager(settings, api)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, manager.stop.set)
        try:
            await manager.run()
        except LeaseLost as lost:
            logger.error("%s; this process exits", lost)
            return 1
    return 0
