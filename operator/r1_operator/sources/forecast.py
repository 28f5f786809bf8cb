"""Forecasts of the load of a resource, polled in the background.

A decision never waits for a forecast: it uses the latest one. A forecast that is stale, missing or
invalid is `Unavailable` with a reason. Each forecast is polled about once per step.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from r1_common.clock import PROCESS_CLOCK
from r1_common.contracts.forecast_request import ActivationRule, ForecastRequest, request_document
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import ClassName, ForecastSpec, MetricType
from r1_operator.kube.kinds import Key
from r1_operator.plan.scaling.forecast_rules.peak_quantile import peak_quantile, waste_seconds
from r1_operator.plan.scaling.policy import DownBehavior, MetricTarget
from r1_operator.plan.signals.forecast import ReceivedForecast, parse_forecast
from r1_operator.sources.cached_poller import CachedPoller

logger = logging.getLogger(__name__)

PENDING = Unavailable("Pending", "The forecaster has not answered yet.")

# Two scrape jobs or two Prometheus replicas record a gateway twice under one instance: count it once.
_RATE = "sum(max by (instance, class) (rate(%s{%%s}[%%ds])))"
_SERIES = {
    MetricType.REQUESTS_PER_SECOND: _RATE % "r1_gateway_requests_offered_total",
    MetricType.TOKENS_PER_SECOND: _RATE % "r1_gateway_tokens_offered_total",
}

RETRY_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class ForecastQuery:
    """The request to the forecaster for one resource; equal queries are sent once per period."""

    request: ForecastRequest
    metric: MetricType
    lead_seconds: float
    period_seconds: float


def forecast_metric(metrics: tuple[MetricTarget, ...]) -> MetricType | None:
    """The forecast metric: the first one that counts arrivals.

    Concurrency and queue length are not forecast, because they depend on the number of replicas.
    """
    return next((metric.type for metric in metrics if metric.type in _SERIES), None)


def series_query(
    key: Key, spec: ForecastSpec, metric: MetricType, min_rate_seconds: int, *, labels: str = ""
) -> str:
    """PromQL of the resource's arrivals; `labels` select a part, such as `class="Q1"`."""
    selector = f'inference_namespace="{key.namespace}",inference="{key.name}"'
    return _SERIES[metric] % (
        f"{selector},{labels}" if labels else selector,
        max(min_rate_seconds, spec.step_seconds),
    )


def build_forecast_query(
    key: Key,
    spec: ForecastSpec,
    metric: MetricType,
    lead_seconds: float,
    min_rate_seconds: int,
    *,
    down_window_seconds: float = DownBehavior().stabilization_window_seconds,
) -> ForecastQuery:
    """The request of `POST /v1/forecast`; the lead time is rounded up to a multiple of 5 s.

    `down_window_seconds` of the scaling policy determines the quantile if the spec sets none.

    The series is a trailing mean, which lags demand by half its window. The forecast therefore covers
    `lead_seconds` plus half the window.
    """
    window = max(min_rate_seconds, spec.step_seconds)
    lead = 5.0 * math.ceil((lead_seconds + window / 2) / 5.0)
    level = peak_quantile(
        None if spec.quantile_percent is None else spec.quantile_percent / 100,
        lead,
        waste_seconds(down_window_seconds, lead),
    )
    return ForecastQuery(
        request=ForecastRequest(
            series_name=str(key),
            query=series_query(key, spec, metric, min_rate_seconds),
            step=float(spec.step_seconds),
            season=float(spec.season_seconds),
            history=float(spec.history_seconds),
            lead=lead,
            horizon=float(spec.horizon_seconds),
            levels=tuple(sorted({0.5, 0.9, 0.95, level})),
            decision_level=level,
            # Has no effect on the forecast: the forecaster shows it to other clients.
            activation=ActivationRule(spec.activation.value),
            class_queries=tuple(
                (
                    str(name),
                    series_query(key, spec, metric, min_rate_seconds, labels=f'class="{name}"'),
                )
                for name in ClassName
            ),
        ),
        metric=metric,
        lead_seconds=lead,
        period_seconds=float(spec.step_seconds),
    )


class ForecastClient:
    """Client of `POST /v1/forecast`, with the latest forecast per resource."""

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        rng: random.Random | None = None,
        clock: Callable[[], float] | None = None,
        now: Callable[[], float] = PROCESS_CLOCK.now,
    ) -> None:
        """With an empty `url` the client is not `configured` and must not be polled.

        `now` is the clock of decisions, to which received forecasts are converted.
        """
        self._now = now
        self._poller: CachedPoller[Key, ReceivedForecast] = CachedPoller(
            url,
            "The forecaster",
            is_valid=lambda forecast: forecast.fault(now()) is None,
            timeout_seconds=timeout_seconds,
            rng=rng,
            clock=clock,
        )
        self._last_query: dict[Key, ForecastQuery] = {}

    @property
    def configured(self) -> bool:
        """Whether a forecaster is configured."""
        return self._poller.configured

    async def close(self) -> None:
        """Cancel the requests and close the connections."""
        await self._poller.close()

    def latest(self, key: Key, query: ForecastQuery) -> ReceivedForecast | Unavailable:
        """Return the latest forecast; send a request in the background if one is due.

        A changed query (a new lead time, an edited resource) is due at once.
        """
        changed = query != self._last_query.get(key)
        send = partial(self._post, key, query)
        if self._poller.poll(key, send, query.period_seconds, immediately=changed):
            self._last_query[key] = query
        cached = self._poller.latest(key)
        return PENDING if cached is None else cached.value

    def expire(self, key: Key) -> None:
        """Make the next request due at once."""
        self._poller.expire(key)

    def forget(self, key: Key) -> None:
        """Drop a deleted resource."""
        self._last_query.pop(key, None)
        self._poller.forget(key)

    async def _post(self, key: Key, query: ForecastQuery) -> ReceivedForecast | Unavailable:
        forecast = await self._read(query)
        if isinstance(forecast, Unavailable):
            logger.debug("no forecast for %s: %s", key, forecast.message)
            # Retry soon: training may end long before the next step, which can be a day.
            self._poller.expire(key, within_seconds=RETRY_SECONDS)
        return forecast

    async def _read(self, query: ForecastQuery) -> ReceivedForecast | Unavailable:
        response = await self._poller.fetch(
            "POST", "/v1/forecast", json=request_document(query.request)
        )
        if isinstance(response, Unavailable):
            return response
        status, body = response
        if status != 200 or not isinstance(body, dict):
            return Unavailable(
                "Refused", f"The forecaster returned HTTP status {status}: {str(body)[:300]}"
            )
        return parse_forecast(body, query.lead_seconds, query.metric, self._now())
