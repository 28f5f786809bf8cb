"""Training in a worker process: lowest priority, one CPU core, a CPU budget.

Only the worker imports torch and Prophet, which keeps the service small and responsive. One fit
runs at a time, in the order of `training_queue`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from r1_common.supervision import Supervisor
from r1_forecasting.series.series import Series
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.training.fit import FitOutcome, fit_one, set_up_worker
from r1_forecasting.training.training_queue import TrainingOrder, TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Trainer:
    """Runs the fits of the queue one after another in a worker process."""

    models: tuple[str, ...]
    queue: TrainingQueue
    _pool: ProcessPoolExecutor | None = None
    _supervisor: Supervisor = field(default_factory=Supervisor)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        self._supervisor.start("training", self._run)

    def failing(self) -> list[str]:
        """One line for each background task that failed recently."""
        return self._supervisor.failing()

    async def stop(self) -> None:
        await self._supervisor.stop()
        self._drop_pool()

    def enqueue(self, order: TrainingOrder) -> None:
        """Train this series now and each time it is due; replaces an earlier order."""
        if self.models:
            self.queue.put(order)
            self._wake.set()

    def remove(self, series_name: str) -> None:
        self.queue.drop(series_name)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = time.monotonic()
            order = self.queue.next(now)
            if order is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self.queue.seconds_until_next(now))
                continue
            try:
                await self._fit(order)
            except Exception:  # the loop must outlive any one order
                LOG.exception(
                    "training of series %s failed; the next attempt is in 60 s", order.series_name
                )
                order.due = time.monotonic() + 60.0

    async def _fit(self, order: TrainingOrder) -> None:
        data = order.series()
        if data is None:
            order.due = time.monotonic() + 1.0
            return
        series, shape = data
        began, spent = time.monotonic(), 0.0
        for model in self.models:
            if not self.queue.contains(order):
                break
            outcome = await self._in_worker(model, series, shape)
            spent += outcome.cpu_seconds
            LOG.info(
                "fitted %s for series %s in %.1f s (%.1f s of CPU): %s",
                model,
                order.series_name,
                outcome.seconds,
                outcome.cpu_seconds,
                outcome.result.message if isinstance(outcome.result, ForecastUnavailable) else "ok",
            )
            order.done(outcome)
        # Recorded even where the order was dropped during the fit: the CPU time is spent.
        self.queue.record_fit(order, began=began, spent=spent, season=shape.season * series.step)

    async def _in_worker(self, model: str, series: Series, shape: SeriesShape) -> FitOutcome:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=set_up_worker,
                initargs=(os.getpid(),),
            )
        started = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, fit_one, model, series, shape
            )
        except BrokenProcessPool:
            self._drop_pool()
            lost = ForecastUnavailable(
                UnavailableReason.FAILED, f"{model}: the training process exited during the fit"
            )
            took = time.monotonic() - started
            return FitOutcome(model, lost, took, took)  # its own CPU time is lost with it

    def _drop_pool(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
