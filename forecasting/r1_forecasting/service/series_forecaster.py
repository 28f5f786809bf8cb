"""State and forecasts of one series: history, models, evaluation, last response.

A response is made at most once per step and cached until the next grid point. Each reads only the
newest history; older samples that arrive late are read in the background (`backfill.py`). Only the
first response waits for a backtest; later ones use the last evaluation while a new one runs in the
background.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from r1_common.contracts.forecast_request import ForecastRequest
from r1_common.contracts.forecast_response import ForecastResponse
from r1_forecasting.calibration.coverage import CoverageTracker, IssuedPeak
from r1_forecasting.forecast import Forecast, check_history, issue
from r1_forecasting.models.protocol import Fitted
from r1_forecasting.selection.evaluation import Evaluation, evaluate
from r1_forecasting.selection.gate import Gate, GateReason
from r1_forecasting.series.prometheus_history import DemandHistory
from r1_forecasting.series.series import Series, merge
from r1_forecasting.series.shape import SeriesShape, shape_of
from r1_forecasting.service.backfill import BackfillWatcher, TimeRange, has_grown
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.response import cache_key, ready, unavailable
from r1_forecasting.training.fit import FitOutcome
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

LOG = logging.getLogger(__name__)

EvaluationRunner = Callable[..., Awaitable[Evaluation]]

REREAD_STEPS = 3
"""Steps read again at each refresh, for samples that arrive late."""


@dataclass(frozen=True, slots=True)
class CachedForecast:
    """A response and the time until which it is valid."""

    request: ForecastRequest
    response: ForecastResponse
    until: float


@dataclass(slots=True)
class SeriesForecaster:
    """State of one series. ``respond`` may be called concurrently."""

    history: DemandHistory
    executors: Executors = field(default_factory=Executors)
    clock: Callable[[], float] = time.time
    """Time base of the history's samples (`SeriesClock`)."""
    series: Series | None = None
    learned: dict[str, Fitted] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    coverage_tracker: CoverageTracker = field(default_factory=CoverageTracker)
    request: ForecastRequest | None = None
    forecast: Forecast | None = None
    requested_since_fit: bool = False
    backfills: int = 0
    """Count of backfills large enough that the learned models have to be trained again."""
    _backfill: BackfillWatcher = field(default_factory=BackfillWatcher)
    _cached: CachedForecast | None = None
    _evaluation_due: bool = False
    _response_task: asyncio.Task[CachedForecast] | None = None
    _evaluation_task: asyncio.Task[None] | None = None
    _backfill_task: asyncio.Task[None] | None = None

    async def respond(self, request: ForecastRequest, timeout_seconds: float) -> ForecastResponse:
        """Return a response within about ``timeout_seconds``; the work continues after it."""
        self.requested_since_fit = True
        if self._response_task is not None:  # one response at a time
            await asyncio.wait({self._response_task}, timeout=timeout_seconds)
        cached = self._cached_response(request)
        if cached is not None:
            return cached
        if self._response_task is None or self._response_task.done():
            self._response_task = asyncio.create_task(self._respond(request))
        response_task = self._response_task
        await asyncio.wait({response_task}, timeout=timeout_seconds)
        if response_task.done() and cache_key(response_task.result().request) == cache_key(request):
            return response_task.result().response  # valid even where it took longer than a step
        issued = self._forecast_from_known_history(request)
        if isinstance(issued, ForecastUnavailable) or self.evaluation is None:
            message = f"no forecast within {timeout_seconds:g} s: the history is still being read"
            reason = (
                UnavailableReason.TRAINING
                if self.evaluation is None
                else UnavailableReason.PROMETHEUS_UNREACHABLE
            )
            return unavailable(request.series_name, ForecastUnavailable(reason, message))
        return ready(request.series_name, issued, self.evaluation.scorecard, self.coverage_tracker)

    def _forecast_from_known_history(
        self, request: ForecastRequest
    ) -> Forecast | ForecastUnavailable:
        """Return a forecast from the history already read, while Prometheus is slow to respond."""
        series, evaluation = self.series, self.evaluation
        same = self.request is not None and self.request.source == request.source
        if series is None or evaluation is None or not (same and evaluation.answers(request)):
            return ForecastUnavailable(
                UnavailableReason.TRAINING, "the first backtest has not finished"
            )
        gate = self._with_live_coverage(evaluation.gate, request)
        return issue(
            series,
            evaluation.fitted,
            evaluation.scorecard,
            gate,
            evaluation.points,
            request,
            self.clock(),
        )

    def training_data(self) -> tuple[Series, SeriesShape] | None:
        """Return the series and the shape to fit a learned model on."""
        if self.series is None or self.request is None:
            return None
        self.requested_since_fit = False
        return self.series, shape_of(self.request)

    def potential_saving(self) -> float:
        """Cost that a perfect model would save, as a share of demand; 0 before a backtest."""
        return 0.0 if self.evaluation is None else self.evaluation.scorecard.potential_saving

    def add_model(self, outcome: FitOutcome) -> None:
        """Add a learned model; it is evaluated after the next response."""
        if not isinstance(outcome.result, ForecastUnavailable):
            self.learned[outcome.model] = outcome.result
            self._evaluation_due = True

    def restore(self, models: Mapping[str, Fitted]) -> None:
        """Add models fitted before a restart; they are evaluated after the next response."""
        self.learned.update(models)
        self._evaluation_due = True

    async def wait_until_idle(self) -> None:
        """Wait until no background task runs."""
        for task in (self._backfill_task, self._evaluation_task):
            if task is not None:
                await asyncio.wait({task})

    async def close(self) -> None:
        """Cancel all tasks."""
        for task in (self._response_task, self._evaluation_task, self._backfill_task):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _cached_response(self, request: ForecastRequest) -> ForecastResponse | None:
        cached = self._cached
        if cached is None or cache_key(cached.request) != cache_key(request):
            return None
        # No response is valid for much longer than a step: the clock was set back.
        if not 0 < cached.until - self.clock() <= 2 * request.step:
            return None
        return cached.response

    async def _respond(self, request: ForecastRequest) -> CachedForecast:
        try:
            issued = await self._forecast_for(request)
        except Exception as error:  # noqa: BLE001 - a failure of one series must not stop the others
            issued = ForecastUnavailable(
                UnavailableReason.FAILED, f"{type(error).__name__}: {error}"[:300]
            )
        if isinstance(issued, ForecastUnavailable) or self.evaluation is None:
            self.forecast = None
            why = (
                issued
                if isinstance(issued, ForecastUnavailable)
                else ForecastUnavailable(UnavailableReason.FAILED, "")
            )
            newest = None if self.series is None else self.series.last()
            missing = unavailable(request.series_name, why, newest)
            self._cached = CachedForecast(request, missing, self.clock() + min(request.step, 1.0))
            return self._cached
        self.forecast = issued
        response = ready(
            request.series_name, issued, self.evaluation.scorecard, self.coverage_tracker
        )
        self._cached = CachedForecast(request, response, issued.valid_until)
        return self._cached

    async def _forecast_for(self, request: ForecastRequest) -> Forecast | ForecastUnavailable:
        if self.request is None or self.request.source != request.source:
            if self._evaluation_task is not None:
                await asyncio.wait({self._evaluation_task})
            self.series, self.evaluation, self._backfill = None, None, BackfillWatcher()
            self.learned, self.coverage_tracker = {}, CoverageTracker()
        self.request = request
        if self.evaluation is not None:
            return await self._read_and_issue(request)
        async with self.executors.first_forecasts:
            return await self._read_and_issue(request)

    async def _read_and_issue(self, request: ForecastRequest) -> Forecast | ForecastUnavailable:
        read_at = self.clock()
        missing = await self._refresh(request, read_at)
        series = self.series
        if series is None:
            return missing or ForecastUnavailable(UnavailableReason.NO_DATA, "no history")
        refused = check_history(series, request, self.clock())
        if refused is not None:
            return missing or refused
        self.coverage_tracker.settle(series)
        evaluation = self.evaluation
        if evaluation is None or not evaluation.answers(request):
            await self._evaluate(series, request, self.executors.read)
            if self.clock() - read_at > request.step:  # the history aged during the first backtest
                await self._refresh(request, self.clock())
                series = self.series if self.series is not None else series
        elif (
            self._evaluation_due or evaluation.aged(request, series.end)
        ) and not self._evaluation_running:
            self._evaluation_task = asyncio.create_task(
                self._evaluate_in_background(series, request)
            )
        evaluation = self.evaluation
        if evaluation is None:
            return ForecastUnavailable(UnavailableReason.FAILED, "the backtest gave no result")
        issued = await asyncio.to_thread(
            issue,
            series,
            evaluation.fitted,
            evaluation.scorecard,
            self._with_live_coverage(evaluation.gate, request),
            evaluation.points,
            request,
            self.clock(),
        )
        if isinstance(issued, Forecast):
            quantiles = tuple(zip(issued.levels, issued.peak_over_lead, strict=True))
            self.coverage_tracker.record(
                IssuedPeak(issued.last_observed_at, issued.peak_steps, quantiles)
            )
        return issued

    async def _evaluate(
        self, series: Series, request: ForecastRequest, run: EvaluationRunner
    ) -> None:
        self._evaluation_due = False
        incumbent = self.evaluation.gate.model if self.evaluation else None
        self.evaluation = await run(evaluate, series, request, dict(self.learned), incumbent)

    @property
    def _evaluation_running(self) -> bool:
        return self._evaluation_task is not None and not self._evaluation_task.done()

    async def _evaluate_in_background(self, series: Series, request: ForecastRequest) -> None:
        try:
            await self._evaluate(series, request, self.executors.background)
        except Exception:
            LOG.exception(
                "backtest of series %s failed; the previous evaluation stays in use",
                request.series_name,
            )

    def _with_live_coverage(self, gate: Gate, request: ForecastRequest) -> Gate:
        """Return the gate, closed while live coverage is far below that of the backtest."""
        level = request.decision_level
        if not gate.open or not self.coverage_tracker.lost(level, shape_of(request).lead):
            return gate
        share, samples = self.coverage_tracker.live(level)
        return replace(
            gate,
            open=False,
            reason=GateReason.COVERAGE_LOST,
            message=f"only {share:.0%} of the last {samples} peaks were at or below their "
            f"{level:g} quantile",
        )

    async def _refresh(self, request: ForecastRequest, now: float) -> ForecastUnavailable | None:
        """Read the newest history; on failure keep the series and return the cause."""
        newest = self.series
        since = now - request.history
        if newest is not None:
            since = max(since, newest.end - REREAD_STEPS * request.step)
        read = await self.executors.read(self.history.read, request.query, request.step, since, now)
        if isinstance(read, ForecastUnavailable):
            return read
        if newest is None:
            self._backfill.mark_full_read(now)
        self._merge(read, request)
        self._start_backfill(request, now)
        return None

    def _merge(self, read: Series, request: ForecastRequest) -> None:
        # The series as of now, not as of the read: another read may have ended in between.
        length = request.history_steps
        newest = self.series
        self.series = read.tail(length) if newest is None else merge(newest, read, length)

    def _start_backfill(self, request: ForecastRequest, now: float) -> None:
        """Start a backfill read where one is due; no response waits for it."""
        busy = self._backfill_task is not None and not self._backfill_task.done()
        if self.series is None or busy:
            return
        span = self._backfill.due(self.series, request, now)
        if span is not None:
            self._backfill_task = asyncio.create_task(self._run_backfill(request, span))

    async def _run_backfill(self, request: ForecastRequest, span: TimeRange) -> None:
        try:
            read = await self.executors.background(
                self.history.read, request.query, request.step, *span
            )
        except Exception:
            LOG.exception(
                "backfill read of series %s failed; the history read before stays in use",
                request.series_name,
            )
            return
        before = self.series
        same = self.request is not None and self.request.source == request.source
        if isinstance(read, ForecastUnavailable) or before is None or not same:
            return
        self._merge(read, request)
        if self.series is not None and has_grown(before, self.series):
            LOG.info(
                "series %s: older history has arrived; models are trained again",
                request.series_name,
            )
            self.backfills += 1
            self._evaluation_due = True  # evaluate after the next response
