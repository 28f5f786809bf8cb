"""Training in a process of its own: low priority, one core, within a budget.

Torch and Prophet are imported only there, so the service stays small and keeps answering.
One fit runs at a time. A subject's first fit goes ahead of refits; refits are staggered by
subject and paid from a share of one core, so a thousand subjects slow down each other's
refits and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from r1_forecasting.protocol import Fitted, Reason, Shape, Unavailable
from r1_forecasting.selection import learned, training_part
from r1_forecasting.series import Series

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitOutcome:
    """What came of one fit, and what it took."""

    model: str
    result: Fitted | Unavailable
    seconds: float


def fit_one(name: str, series: Series, shape: Shape) -> FitOutcome:
    """Fit the learned model ``name``; any failure inside it becomes an ``Unavailable``."""
    started = time.monotonic()
    forecaster = next(f for f in learned() if f.name == name)
    try:
        result = forecaster.fit(training_part(series, shape), shape)
    except Exception as error:  # noqa: BLE001 - a third-party fit may raise anything
        result = Unavailable(Reason.FAILED, f"{name}: {type(error).__name__}: {error}"[:300])
    return FitOutcome(name, result, time.monotonic() - started)


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
class Order:
    """One subject's standing order for fits; the callables reach into its present state."""

    subject: str
    series: Callable[[], tuple[Series, Shape] | None]
    done: Callable[[FitOutcome], None]
    wanted: Callable[[], bool]
    due: float
    fitted_before: bool = False


@dataclass(slots=True)
class Trainer:
    """Runs fits one after another. ``share`` is the part of one core that refits may use."""

    models: tuple[str, ...]
    share: float = 0.25
    orders: dict[str, Order] = field(default_factory=dict)
    _pool: ProcessPoolExecutor | None = None
    _task: asyncio.Task[None] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _rest_until: float = 0.0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._drop_pool()

    def enlist(self, order: Order) -> None:
        """Train this subject now and again each time it is due; replaces an earlier order."""
        if self.models:
            self.orders[order.subject] = order
            self._wake.set()

    def dismiss(self, subject: str) -> None:
        self.orders.pop(subject, None)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = time.monotonic()
            order = self._next(now)
            if order is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._pause(now))
                continue
            try:
                await self._fit(order)
            except Exception:  # the loop must outlive any one order
                LOG.exception("training of %s failed", order.subject)
                order.due = time.monotonic() + 60.0

    def _next(self, now: float) -> Order | None:
        """First fits before refits, the longest due before the others."""
        due = [order for order in self.orders.values() if order.due <= now]
        first = [order for order in due if not order.fitted_before]
        if first:
            return min(first, key=lambda order: order.due)
        if now < self._rest_until:
            return None
        return min((o for o in due if o.wanted()), key=lambda order: order.due, default=None)

    def _pause(self, now: float) -> float:
        upcoming = [order.due for order in self.orders.values()] + [self._rest_until]
        return max(0.02, min([5.0, *(due - now for due in upcoming if due > now)]))

    async def _fit(self, order: Order) -> None:
        given = order.series()
        if given is None:
            order.due = time.monotonic() + 1.0
            return
        series, shape = given
        started = time.monotonic()
        for model in self.models:
            if self.orders.get(order.subject) is not order:
                return
            outcome = await self._in_worker(model, series, shape)
            LOG.info(
                "fitted %s for %s in %.1f s: %s",
                model,
                order.subject,
                outcome.seconds,
                outcome.result.message if isinstance(outcome.result, Unavailable) else "ok",
            )
            order.done(outcome)
        spent = time.monotonic() - started
        order.fitted_before = True
        season_seconds = shape.season * series.step
        stagger = 1.0 + 0.25 * (zlib.crc32(order.subject.encode()) % 1000) / 1000
        order.due = time.monotonic() + max(season_seconds, spent / self.share) * stagger
        rest = time.monotonic() + spent * (1 / self.share - 1)
        self._rest_until = max(self._rest_until, rest)

    async def _in_worker(self, model: str, series: Series, shape: Shape) -> FitOutcome:
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
            lost = Unavailable(Reason.FAILED, f"{model}: the training process died")
            return FitOutcome(model, lost, time.monotonic() - started)

    def _drop_pool(self) -> None:
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None
