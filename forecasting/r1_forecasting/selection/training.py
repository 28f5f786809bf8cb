"""Training in a process of its own: low priority, one core, within a budget.

Torch and Prophet are imported only there, so the service stays small and keeps answering.
One fit runs at a time; whose it is, ``training_queue`` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from r1_common.supervision import Supervisor
from r1_forecasting.protocol import Fitted, ForecastUnavailable, SeriesShape, UnavailableReason
from r1_forecasting.selection.selection import learned, training_part
from r1_forecasting.selection.training_queue import Order, TrainingQueue
from r1_forecasting.series.series import Series

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitOutcome:
    """What came of one fit, and what it took."""

    model: str
    result: Fitted | ForecastUnavailable
    seconds: float
    cpu_seconds: float


def fit_one(name: str, series: Series, shape: SeriesShape) -> FitOutcome:
    """Fit the learned model ``name``; any failure inside it becomes an ``Unavailable``."""
    started, spent = time.monotonic(), _cpu_seconds()
    forecaster = next(f for f in learned() if f.name == name)
    try:
        result = forecaster.fit(training_part(series, shape), shape)
    except Exception as error:  # noqa: BLE001 - a third-party fit may raise anything
        result = ForecastUnavailable(
            UnavailableReason.FAILED, f"{name}: {type(error).__name__}: {error}"[:300]
        )
    return FitOutcome(name, result, time.monotonic() - started, _cpu_seconds() - spent)


def _cpu_seconds() -> float:
    """Of this process and of children that have ended: Prophet's solver is one."""
    return sum(os.times()[:4])


def _settle_worker(parent: int) -> None:
    """Lowest priority, one thread, and no life beyond the parent's (a killed one included)."""
    os.nice(15)
    os.environ["OMP_NUM_THREADS"] = "1"

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


@dataclass(slots=True)
class Trainer:
    """Runs the queue's fits one after another, in a worker process."""

    models: tuple[str, ...]
    queue: TrainingQueue
    _pool: ProcessPoolExecutor | None = None
    _supervisor: Supervisor = field(default_factory=Supervisor)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        self._supervisor.start("training", self._run)

    def failing(self) -> list[str]:
        """A line for each background task that failed lately."""
        return self._supervisor.failing()

    async def stop(self) -> None:
        await self._supervisor.stop()
        self._drop_pool()

    def enlist(self, order: Order) -> None:
        """Train this subject now and again each time it is due; replaces an earlier order."""
        if self.models:
            self.queue.put(order)
            self._wake.set()

    def dismiss(self, subject: str) -> None:
        self.queue.drop(subject)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = time.monotonic()
            order = self.queue.next(now)
            if order is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self.queue.pause(now))
                continue
            try:
                await self._fit(order)
            except Exception:  # the loop must outlive any one order
                LOG.exception("training of %s failed", order.subject)
                order.due = time.monotonic() + 60.0

    async def _fit(self, order: Order) -> None:
        given = order.series()
        if given is None:
            order.due = time.monotonic() + 1.0
            return
        series, shape = given
        began, spent = time.monotonic(), 0.0
        for model in self.models:
            if not self.queue.holds(order):
                break
            outcome = await self._in_worker(model, series, shape)
            spent += outcome.cpu_seconds
            LOG.info(
                "fitted %s for %s in %.1f s (%.1f s of CPU): %s",
                model,
                order.subject,
                outcome.seconds,
                outcome.cpu_seconds,
                outcome.result.message if isinstance(outcome.result, ForecastUnavailable) else "ok",
            )
            order.done(outcome)
        # Paid for even where the order went meanwhile: the CPU is spent.
        self.queue.settle(order, began=began, spent=spent, season=shape.season * series.step)

    async def _in_worker(self, model: str, series: Series, shape: SeriesShape) -> FitOutcome:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_settle_worker,
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
                UnavailableReason.FAILED, f"{model}: the training process died"
            )
            took = time.monotonic() - started
            return FitOutcome(model, lost, took, took)  # what it spent went with it

    def _drop_pool(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
