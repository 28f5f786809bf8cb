"""Forecasts of one resource's load, asked for in the background.

A decision never waits for a forecast: it takes the latest answer there is, and what is too old, not
there or not usable is `Unavailable` with a reason. An answer is asked for again about once a step.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from r1_common.clock import PROCESS_CLOCK
from r1_operator.api.scaling import ClassName, ForecastSpec, MetricType
from r1_operator.kube.kinds import Json, Key
from r1_operator.plan.scaling.peak_quantile import peak_quantile, waste_seconds
from r1_operator.plan.scaling.policy import DownBehavior, MetricTarget
from r1_operator.plan.signals.forecast import ReceivedForecast, parse_forecast
from r1_operator.plan.unavailable import Unavailable
from r1_operator.sources.cached_poller import CachedPoller

logger = logging.getLogger(__name__)

PENDING = Unavailable("Pending", "The forecaster has not answered yet.")

# A gateway that two scrape jobs or two Prometheus replicas read is there twice, with the same instance:
# it counts once.
_RATE = "sum(max by (instance, class) (rate(%s{%%s}[%%ds])))"
_SERIES = {
    MetricType.REQUESTS_PER_SECOND: _RATE % "r1_gateway_requests_offered_total",
    MetricType.TOKENS_PER_SECOND: _RATE % "r1_gateway_tokens_offered_total",
}

RETRY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class ForecastQuery:
    """What the forecaster is asked about one resource; equal questions need no second asking."""

    body: Json
    metric: MetricType
    lead_seconds: float
    every_seconds: float


def forecast_metric(metrics: tuple[MetricTarget, ...]) -> MetricType | None:
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
) -> ForecastQuery:
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
        waste_seconds(down_window_seconds, lead),
    )
    return ForecastQuery(
        body={
            "series": str(key),
            "query": _SERIES[metric] % (labels, window),
            "stepSeconds": ask.step_seconds,
            "seasonSeconds": ask.season_seconds,
            "historySeconds": ask.history_seconds,
            "leadSeconds": lead,
            "horizonSeconds": ask.horizon_seconds,
            "levels": sorted({0.5, 0.9, 0.95, level}),
            "decisionLevel": level,
            # Changes no answer: who is shown the forecast beside the operator is shown as much.
            "activation": str(ask.activation),
            "classQueries": {
                str(name): _SERIES[metric] % (f'{labels},class="{name}"', window)
                for name in ClassName
            },
        },
        metric=metric,
        lead_seconds=lead,
        every_seconds=float(ask.step_seconds),
    )


class ForecastClient:
    """The client of `POST /v1/forecast`, with the latest answer per resource."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
        now: Callable[[], float] = PROCESS_CLOCK.now,
    ) -> None:
        """`url` may be empty: then nothing is `configured` and nothing should be asked.

        `now` is the clock of decisions: forecasts are moved onto it when they come.
        """
        self._now = now
        self._asking: CachedPoller[Key, ReceivedForecast] = CachedPoller(
            url,
            "The forecaster",
            holds=lambda known: known.fault(now()) is None,
            timeout_seconds=timeout_seconds,
            rng=rng,
            clock=clock,
        )
        self._asked: dict[Key, ForecastQuery] = {}

    @property
    def configured(self) -> bool:
        """Whether there is a forecaster to ask; a site may do without."""
        return self._asking.configured

    async def close(self) -> None:
        """Drop what is being asked and close the connections."""
        await self._asking.close()

    def latest(self, key: Key, question: ForecastQuery) -> ReceivedForecast | Unavailable:
        """The latest answer, at once; asks again in the background when that is due.

        Another question than the last (a lead measured anew, an edited resource) is due at once.
        """
        changed = question != self._asked.get(key)
        put = partial(self._post, key, question)
        if self._asking.ask(key, put, question.every_seconds, at_once=changed):
            self._asked[key] = question
        known = self._asking.known(key)
        return PENDING if known is None else known.answer

    def expire(self, key: Key) -> None:
        """Ask again at the next look."""
        self._asking.expire(key)

    def forget(self, key: Key) -> None:
        """The resource has gone."""
        self._asked.pop(key, None)
        self._asking.forget(key)

    async def _post(self, key: Key, question: ForecastQuery) -> ReceivedForecast | Unavailable:
        answer = await self._read(question)
        if isinstance(answer, Unavailable):
            logger.debug("forecast of %s: %s", key, answer.message)
            # Asked again soon: training may be done long before a step of a day has passed.
            self._asking.expire(key, within=RETRY_SECONDS)
        return answer

    async def _read(self, question: ForecastQuery) -> ReceivedForecast | Unavailable:
        said = await self._asking.fetch("POST", "/v1/forecast", json=question.body)
        if isinstance(said, Unavailable):
            return said
        status, answer = said
        if status != 200 or not isinstance(answer, dict):
            return Unavailable("Refused", f"The forecaster answered {status}: {str(answer)[:300]}")
        return parse_forecast(answer, question.lead_seconds, question.metric, self._now())
