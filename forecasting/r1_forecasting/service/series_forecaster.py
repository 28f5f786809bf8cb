"""One subject's forecasting: its history, its models, its judgement, its last answer.

An answer is made at most once per step and cached until the next grid point. Each one
reads only the newest history; what may have arrived behind that is looked for in the
background (`past.py`). Only the very first answer waits for a backtest; later ones go on
with the judgement at hand while a new one is made behind them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from r1_forecasting.calibration.coverage import CoverageLedger, Issued
from r1_forecasting.forecast import Forecast, check_history, issue
from r1_forecasting.protocol import Fitted, ForecastUnavailable, SeriesShape, UnavailableReason
from r1_forecasting.selection.evaluation import Evaluation, evaluate
from r1_forecasting.selection.gate import Gate, GateReason
from r1_forecasting.selection.training import FitOutcome
from r1_forecasting.series.backfill import BackfillWatcher, Span, has_grown
from r1_forecasting.series.prometheus_history import DemandHistory
from r1_forecasting.series.series import Series, merge
from r1_forecasting.service import answer
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.request import ForecastRequest

LOG = logging.getLogger(__name__)

JudgingLane = Callable[..., Awaitable[Evaluation]]

REREAD_STEPS = 3
"""Steps read again at each refresh: late samples still count."""


@dataclass(frozen=True, slots=True)
class Cached:
    """An answer and how long it stands."""

    request: ForecastRequest
    body: dict[str, Any]
    until: float


@dataclass(slots=True)
class SeriesForecaster:
    """State of one subject. ``answer`` may be called concurrently."""

    history: DemandHistory
    lanes: Executors = field(default_factory=Executors)
    clock: Callable[[], float] = time.time
    """the time by which the history's samples are dated (`SeriesClock`)"""
    series: Series | None = None
    learned: dict[str, Fitted] = field(default_factory=dict)
    judgement: Evaluation | None = None
    ledger: CoverageLedger = field(default_factory=CoverageLedger)
    request: ForecastRequest | None = None
    forecast: Forecast | None = None
    asked_since_fit: bool = False
    pasts: int = 0
    """how often the known past has grown: learned models of before know too little"""
    _watch: BackfillWatcher = field(default_factory=BackfillWatcher)
    _cached: Cached | None = None
    _joined: bool = False
    _working: asyncio.Task[Cached] | None = None
    _judging: asyncio.Task[None] | None = None
    _looking: asyncio.Task[None] | None = None

    async def answer(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        """The answer within about ``patience`` seconds; the work goes on behind it."""
        self.asked_since_fit = True
        if self._working is not None:  # one piece of work at a time
            await asyncio.wait({self._working}, timeout=patience)
        cached = self._current(request)
        if cached is not None:
            return cached
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(request))
        working = self._working
        await asyncio.wait({working}, timeout=patience)
        if working.done() and working.result().request.key == request.key:
            return working.result().body  # just made, even where a step is shorter than that
        made = self._from_what_is_known(request)
        if isinstance(made, ForecastUnavailable) or self.judgement is None:
            said = f"no answer within {patience:g} s: the history is still being read"
            reason = (
                UnavailableReason.TRAINING
                if self.judgement is None
                else UnavailableReason.PROMETHEUS_UNREACHABLE
            )
            return answer.unavailable(request.subject, ForecastUnavailable(reason, said))
        return answer.ready(request.subject, made, self.judgement.standing, self.ledger)

    def _from_what_is_known(self, request: ForecastRequest) -> Forecast | ForecastUnavailable:
        """A forecast without the newest history: better than none while that is slow to come."""
        series, judged = self.series, self.judgement
        same = self.request is not None and self.request.source == request.source
        if series is None or judged is None or not (same and judged.answers(request)):
            return ForecastUnavailable(UnavailableReason.TRAINING, "nothing is known yet")
        gate = self._guarded(judged.gate, request)
        return issue(
            series, judged.fitted, judged.standing, gate, judged.points, request, self.clock()
        )

    def training_material(self) -> tuple[Series, SeriesShape] | None:
        """What a learned model would be fitted on now."""
        if self.series is None or self.request is None:
            return None
        self.asked_since_fit = False
        return self.series, self.request.shape

    def to_gain(self) -> float:
        """What a perfect model would save, as a share of demand; 0 before a backtest."""
        return 0.0 if self.judgement is None else self.judgement.standing.to_gain

    def join(self, outcome: FitOutcome) -> None:
        """A learned model is ready; it is judged behind the next answer."""
        if not isinstance(outcome.result, ForecastUnavailable):
            self.learned[outcome.model] = outcome.result
            self._joined = True

    def restore(self, models: Mapping[str, Fitted]) -> None:
        """Models that were fitted before a restart; they are judged behind the next answer."""
        self.learned.update(models)
        self._joined = True

    async def quiet(self) -> None:
        """Wait until nothing is under way in the background."""
        for task in (self._looking, self._judging):
            if task is not None:
                await asyncio.wait({task})

    async def close(self) -> None:
        """Give up what is under way."""
        for task in (self._working, self._judging, self._looking):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _current(self, request: ForecastRequest) -> dict[str, Any] | None:
        cached = self._cached
        if cached is None or cached.request.key != request.key:
            return None
        # None stands for much longer than a step: the clock was set back.
        if not 0 < cached.until - self.clock() <= 2 * request.step:
            return None
        return cached.body

    async def _work(self, request: ForecastRequest) -> Cached:
        try:
            made = await self._forecast(request)
        except Exception as error:  # noqa: BLE001 - a bug in one subject stays its own
            made = ForecastUnavailable(
                UnavailableReason.FAILED, f"{type(error).__name__}: {error}"[:300]
            )
        if isinstance(made, ForecastUnavailable) or self.judgement is None:
            self.forecast = None
            why = (
                made
                if isinstance(made, ForecastUnavailable)
                else ForecastUnavailable(UnavailableReason.FAILED, "")
            )
            known = None if self.series is None else self.series.last()
            body = answer.unavailable(request.subject, why, known)
            self._cached = Cached(request, body, self.clock() + min(request.step, 1.0))
            return self._cached
        self.forecast = made
        body = answer.ready(request.subject, made, self.judgement.standing, self.ledger)
        self._cached = Cached(request, body, made.valid_until)
        return self._cached

    async def _forecast(self, request: ForecastRequest) -> Forecast | ForecastUnavailable:
        if self.request is None or self.request.source != request.source:
            if self._judging is not None:
                await asyncio.wait({self._judging})
            self.series, self.judgement, self._watch = None, None, BackfillWatcher()
            self.learned, self.ledger = {}, CoverageLedger()
        self.request = request
        if self.judgement is not None:
            return await self._made(request)
        async with self.lanes.newcomers:
            return await self._made(request)

    async def _made(self, request: ForecastRequest) -> Forecast | ForecastUnavailable:
        read_at = self.clock()
        missing = await self._refresh(request, read_at)
        series = self.series
        if series is None:
            return missing or ForecastUnavailable(UnavailableReason.NO_DATA, "no history")
        refused = check_history(series, request, self.clock())
        if refused is not None:
            return missing or refused
        self.ledger.settle(series)
        judged = self.judgement
        if judged is None or not judged.answers(request):
            await self._judge(series, request, self.lanes.read)
            if self.clock() - read_at > request.step:  # the first backtest outlasted its history
                await self._refresh(request, self.clock())
                series = self.series if self.series is not None else series
        elif (self._joined or judged.aged(request, series.end)) and not self._busy_judging:
            self._judging = asyncio.create_task(self._judge_behind(series, request))
        judged = self.judgement
        if judged is None:
            return ForecastUnavailable(UnavailableReason.FAILED, "no judgement could be made")
        made = await asyncio.to_thread(
            issue,
            series,
            judged.fitted,
            judged.standing,
            self._guarded(judged.gate, request),
            judged.points,
            request,
            self.clock(),
        )
        if isinstance(made, Forecast):
            said = tuple(zip(made.levels, made.peak_over_lead, strict=True))
            self.ledger.announce(Issued(made.last_observed_at, made.peak_steps, said))
        return made

    async def _judge(self, series: Series, request: ForecastRequest, lane: JudgingLane) -> None:
        self._joined = False
        incumbent = self.judgement.gate.model if self.judgement else None
        self.judgement = await lane(evaluate, series, request, dict(self.learned), incumbent)

    @property
    def _busy_judging(self) -> bool:
        return self._judging is not None and not self._judging.done()

    async def _judge_behind(self, series: Series, request: ForecastRequest) -> None:
        try:
            await self._judge(series, request, self.lanes.behind)
        except Exception:
            LOG.exception("backtest of %s failed; the one before stands", request.subject)

    def _guarded(self, gate: Gate, request: ForecastRequest) -> Gate:
        """The gate, shut while live coverage says that the backtest flattered."""
        level = request.decision_level
        if not gate.acts or not self.ledger.lost(level, request.shape.lead):
            return gate
        share, samples = self.ledger.live(level)
        return replace(
            gate,
            acts=False,
            reason=GateReason.COVERAGE_LOST,
            message=f"only {share:.0%} of the last {samples} peaks stayed below their "
            f"{level:g} quantile",
        )

    async def _refresh(self, request: ForecastRequest, now: float) -> ForecastUnavailable | None:
        """Read what is new; on failure keep what is known and say what was missing."""
        known = self.series
        since = now - request.history
        if known is not None:
            since = max(since, known.end - REREAD_STEPS * request.step)
        read = await self.lanes.read(self.history.read, request.query, request.step, since, now)
        if isinstance(read, ForecastUnavailable):
            return read
        if known is None:
            self._watch.begin(now)
        self._take_in(read, request)
        self._look_back(request, now)
        return None

    def _take_in(self, read: Series, request: ForecastRequest) -> None:
        # What is known now, not before the read: another read may have ended meanwhile.
        length = request.history_steps
        known = self.series
        self.series = read.tail(length) if known is None else merge(known, read, length)

    def _look_back(self, request: ForecastRequest, now: float) -> None:
        """Have the past looked at again where that is due; no answer waits for it."""
        busy = self._looking is not None and not self._looking.done()
        if self.series is None or busy:
            return
        span = self._watch.due(self.series, request, now)
        if span is not None:
            self._looking = asyncio.create_task(self._look(request, span))

    async def _look(self, request: ForecastRequest, span: Span) -> None:
        try:
            read = await self.lanes.behind(self.history.read, request.query, request.step, *span)
        except Exception:
            LOG.exception("looking back at %s failed; what is known stands", request.subject)
            return
        before = self.series
        same = self.request is not None and self.request.source == request.source
        if isinstance(read, ForecastUnavailable) or before is None or not same:
            return
        self._take_in(read, request)
        if self.series is not None and has_grown(before, self.series):
            LOG.info("the past of %s has grown: models learn anew", request.subject)
            self.pasts += 1
            self._joined = True  # judge behind the next answer
