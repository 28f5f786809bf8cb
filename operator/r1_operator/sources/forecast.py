"""Forecasts of one resource's load, asked for in the background.

A decision never waits for a forecast: it takes the latest answer there is, and what is too old, not
there or not usable is `Unavailable` with a reason. An answer is asked for again about once a step.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from r1_operator.api.scaling import Forecast as ForecastSpec
from r1_operator.api.scaling import MetricType
from r1_operator.kube.kinds import Json, Key
from r1_operator.plan.forecasts import Forecast, parse_forecast
from r1_operator.plan.newsvendor import peak_quantile, vouched_window
from r1_operator.plan.policy import DownBehavior, Metric
from r1_operator.plan.unavailable import Unavailable

logger = logging.getLogger(__name__)

PENDING = Unavailable("Pending", "The forecaster has not answered yet.")

_SERIES = {
    MetricType.REQUESTS_PER_SECOND: "sum(rate(r1_gateway_requests_offered_total{%s}[%ds]))",
    MetricType.TOKENS_PER_SECOND: "sum(rate(r1_gateway_tokens_offered_total{%s}[%ds]))",
}


UNREACHABLE = "Unreachable"


@dataclass(frozen=True, slots=True)
class Question:
    """What the forecaster is asked about one resource; equal questions need no second asking."""

    body: Json
    metric: MetricType
    lead_seconds: float
    every_seconds: float


def forecast_metric(metrics: tuple[Metric, ...]) -> MetricType | None:
    """The metric that is forecast: the first that counts arrivals.

    Concurrency and queue length are not: they answer to the replicas that the forecast would make.
    """
    return next((metric.type for metric in metrics if metric.type in _SERIES), None)


def build_question(
    key: Key,
    ask: ForecastSpec,
    metric: MetricType,
    lead_seconds: float,
    min_rate_seconds: int,
    *,
    down_window_seconds: float = DownBehavior().stabilization_window_seconds,
) -> Question:
    """The request body of `POST /v1/forecast`; the lead is rounded up to whole steps of 5 s.

    `down_window_seconds` is the policy's, by which the quantile is chosen where none is given.

    The series is a trailing mean: what it shows at a time was demanded half its window earlier. A
    demand that replicas have to meet after `lead_seconds` shows up that much later, so that long
    the forecast has to look.
    """
    labels = f'inference_namespace="{key.namespace}",inference="{key.name}"'
    window = max(min_rate_seconds, ask.step_seconds)
    lead = 5.0 * math.ceil((lead_seconds + window / 2) / 5.0)
    level = peak_quantile(
        None if ask.quantile_percent is None else ask.quantile_percent / 100,
        lead,
        vouched_window(down_window_seconds, lead),
    )
    return Question(
        body={
            "subject": str(key),
            "query": _SERIES[metric] % (labels, window),
            "stepSeconds": ask.step_seconds,
            "seasonSeconds": ask.season_seconds,
            "historySeconds": ask.history_seconds,
            "leadSeconds": lead,
            "horizonSeconds": ask.horizon_seconds,
            "levels": sorted({0.5, 0.9, 0.95, level}),
        },
        metric=metric,
        lead_seconds=lead,
        every_seconds=float(ask.step_seconds),
    )


class Forecaster:
    """The client of `POST /v1/forecast`, with the latest answer per resource."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        max_concurrent: int = 4,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`url` may be empty: then nothing is `configured` and nothing should be asked."""
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._slots = asyncio.Semaphore(max_concurrent)
        self._rng = rng or random.Random()  # noqa: S311 (jitter, not a secret)
        self._clock = clock
        self._wall = wall
        self._session: aiohttp.ClientSession | None = None
        self._latest: dict[Key, Forecast | Unavailable] = {}
        self._due: dict[Key, float] = {}
        self._asked: dict[Key, Question] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a forecaster to ask; a site may do without."""
        return bool(self._url)

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def latest(self, key: Key, question: Question) -> Forecast | Unavailable:
        """The latest answer, at once; asks again in the background when that is due.

        Another question than the last (a lead measured anew, an edited resource) is due at once.
        """
        now = self._time()
        due = now >= self._due.get(key, float("-inf")) or question != self._asked.get(key)
        if key not in self._tasks and due:
            self._asked[key] = question
            self._due[key] = now + question.every_seconds * self._rng.uniform(0.9, 1.1)
            task = asyncio.create_task(self._ask(key, question))
            self._tasks[key] = task
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return self._latest.get(key, PENDING)

    def expire(self, key: Key) -> None:
        """Ask again at the next look."""
        self._due[key] = float("-inf")

    def forget(self, key: Key) -> None:
        """The resource has gone."""
        for known in (self._latest, self._due, self._asked):
            known.pop(key, None)

    def _time(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    async def _ask(self, key: Key, question: Question) -> None:
        async with self._slots:
            answer = await self._post(question)
        if isinstance(answer, Unavailable):
            logger.debug("forecast of %s: %s", key, answer.message)
            # Asked again soon: training may be done long before a step of a day has passed.
            self._due[key] = min(self._due[key], self._time() + 15.0)
        if key in self._due and not self._outlives(self._latest.get(key), answer):
            self._latest[key] = answer

    def _outlives(
        self, known: Forecast | Unavailable | None, answer: Forecast | Unavailable
    ) -> bool:
        """Whether silence came instead of an answer while the last forecast still holds."""
        silent = isinstance(answer, Unavailable) and answer.reason == UNREACHABLE
        return silent and isinstance(known, Forecast) and known.fault(self._wall()) is None

    async def _post(self, question: Question) -> Forecast | Unavailable:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.post(
                f"{self._url}/v1/forecast", json=question.body
            ) as response:
                answer = await response.json(content_type=None)
                if response.status != 200 or not isinstance(answer, dict):
                    return Unavailable(
                        "Refused", f"The forecaster answered {response.status}: {str(answer)[:300]}"
                    )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            what = str(error) or type(error).__name__
            return Unavailable(UNREACHABLE, f"The forecaster does not answer: {what}.")
        return parse_forecast(answer, question.lead_seconds, question.metric)
