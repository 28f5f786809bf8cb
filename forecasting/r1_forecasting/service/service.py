"""HTTP service of the forecaster: ``POST /v1/forecast``, probes and metrics.

The first response for a series comes from the quick models within 1 to 2 s and puts the series
into the training queue; learned models join when they are fitted and scored.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from r1_common.contracts.forecast_request import (
    ForecastRequest,
    InvalidForecastRequest,
    parse_forecast_request,
)
from r1_common.contracts.forecast_response import (
    ForecastResponse,
    NoForecast,
    ReadyForecast,
    forecast_document,
)
from r1_common.supervision import Supervisor
from r1_common.untrusted_json import InvalidJson, parse_json
from r1_forecasting.series.prometheus_history import DemandHistory
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.training.fit import FitOutcome
from r1_forecasting.training.model_store import ModelStore, Source
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingOrder

LOG = logging.getLogger(__name__)

ForecastHandler = Callable[[ForecastRequest, float], Awaitable[ForecastResponse]]
"""Request and timeout (s) -> response of ``POST /v1/forecast``."""

OPERATOR_TIMEOUT_SECONDS, OPERATOR_TIMEOUT_STEPS = 600.0, 5
"""After the longer of the two without a request, the operator no longer scales on the series."""


@dataclass(slots=True)
class ForecastService:
    """Series by name.

    A series without a request for ``idle_seconds`` is dropped, and beyond ``max_series`` the least
    recently requested one.
    """

    history: DemandHistory
    trainer: Trainer
    timeout_seconds: float = 1.5
    max_series: int = 2000
    idle_seconds: float = 86_400.0
    model_store: ModelStore = field(default_factory=lambda: ModelStore(None))
    executors: Executors = field(default_factory=Executors)
    clock: Callable[[], float] = time.monotonic
    series_clock: Callable[[], float] = time.time
    """Time base of the history's samples (`SeriesClock`)."""
    metrics: ForecastMetrics = field(default_factory=ForecastMetrics)
    forecasters: OrderedDict[str, SeriesForecaster] = field(default_factory=OrderedDict)
    supervisor: Supervisor = field(default_factory=Supervisor)
    """Supervisor of the background tasks other than training."""
    _enqueued: dict[str, object] = field(default_factory=dict)
    _requested_at: dict[str, float] = field(default_factory=dict)
    _operator_requests: dict[str, tuple[ForecastRequest, float]] = field(default_factory=dict)

    def application(self, handler: ForecastHandler | None = None) -> web.Application:
        """Build the application; ``handler`` replaces `operator_forecast` where series are sharded."""
        app = web.Application(client_max_size=256 * 1024)
        app.add_routes(
            [
                web.post(
                    "/v1/forecast", partial(self.post_forecast, handler or self.operator_forecast)
                ),
                web.get("/healthz", self.healthy),
                web.get("/readyz", self.healthy),
                web.get("/metrics", self.metrics_page),
            ]
        )
        app.cleanup_ctx.append(self._training)
        return app

    async def post_forecast(self, handler: ForecastHandler, http: web.Request) -> web.Response:
        try:
            request = parse_forecast_request(await http.json(loads=parse_json))
        except (InvalidJson, UnicodeDecodeError) as error:
            return _refused(f"the body is not valid JSON: {error}")
        except InvalidForecastRequest as error:
            return _refused(str(error))
        return web.json_response(forecast_document(await handler(request, self.timeout_seconds)))

    async def operator_forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> ForecastResponse:
        """Respond to the operator and store its request for the published forecasts."""
        self._operator_requests[request.series_name] = (request, self.clock())
        return await self.forecast(request, timeout_seconds)

    async def forecast(self, request: ForecastRequest, timeout_seconds: float) -> ForecastResponse:
        """Respond within about ``timeout_seconds``; enqueue the series for training."""
        started = time.perf_counter()
        forecaster = self._forecaster(request.series_name)
        response = await forecaster.respond(request, timeout_seconds)
        # A series dropped during the request must leave neither an order nor a gauge.
        if self.forecasters.get(request.series_name) is forecaster:
            if forecaster.series is not None and isinstance(response, ReadyForecast):
                self._enqueue(
                    request.series_name, forecaster, (request.source, forecaster.backfills)
                )
            self.metrics.update(request.series_name, forecaster)
        self.metrics.responses.labels(response.state, response.reason).inc()
        self.metrics.response_seconds.observe(time.perf_counter() - started)
        if isinstance(response, NoForecast):
            return response
        # A response is valid for one step. The reader has another clock, so the age is included.
        return replace(response, age_seconds=max(0.0, forecaster.clock() - response.issued_at))

    async def operator_request(self, name: str) -> ForecastRequest | None:
        """Return the operator's last request for a series, None after its timeout.

        HPA and KEDA request the same series, so only the operator's own requests count.
        """
        request, at = self._operator_requests.get(name, (None, 0.0))
        if request is None or self.clock() - at > max(
            OPERATOR_TIMEOUT_SECONDS, OPERATOR_TIMEOUT_STEPS * request.step
        ):
            return None
        return request

    def retain_only(self, owned: Callable[[str], bool]) -> int:
        """Drop the series that another shard owns; return their number."""
        dropped = [name for name in self.forecasters if not owned(name)]
        for name in dropped:
            self._drop(name)
        return len(dropped)

    async def healthy(self, _: web.Request) -> web.Response:
        """Always 200, because a restart would lose every model. ``failing`` lists failed tasks."""
        failing = [*self.trainer.failing(), *self.supervisor.failing()]
        body = {"status": "ok", "series": len(self.forecasters), "failing": failing}
        return web.json_response(body)

    async def metrics_page(self, _: web.Request) -> web.Response:
        self.metrics.series.set(len(self.forecasters))
        self.metrics.queue_length.set(self.trainer.queue.due_count(time.monotonic()))
        return web.Response(
            body=generate_latest(self.metrics.registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    def _forecaster(self, name: str) -> SeriesForecaster:
        now = self.clock()
        if name not in self.forecasters:
            self.forecasters[name] = SeriesForecaster(
                self.history, self.executors, self.series_clock
            )
        self.forecasters.move_to_end(name)
        self._requested_at[name] = now
        oldest = next(iter(self.forecasters))
        if (
            len(self.forecasters) > self.max_series
            or now - self._requested_at[oldest] > self.idle_seconds
        ):
            self._drop(oldest)
        return self.forecasters[name]

    def _drop(self, name: str) -> None:
        del self.forecasters[name], self._requested_at[name]
        self._enqueued.pop(name, None)
        self._operator_requests.pop(name, None)
        self.model_store.delete(name)
        self.trainer.remove(name)
        self.metrics.remove(name)

    def _enqueue(self, name: str, forecaster: SeriesForecaster, training_key: object) -> None:
        """Order training once per series, and again after a changed source or a large backfill."""
        if self._enqueued.get(name) == training_key:
            return
        source = forecaster.request.source if forecaster.request else ("", 0.0, 0.0)
        age = None if name in self._enqueued else self._restore(name, forecaster, source)
        self._enqueued[name] = training_key

        def done(outcome: FitOutcome) -> None:
            self.metrics.fitted(outcome)
            if self._enqueued.get(name) == training_key:
                forecaster.add_model(outcome)
                if outcome.model == self.trainer.models[-1]:
                    self.model_store.save(name, source, time.time(), forecaster.learned)

        self.trainer.enqueue(
            TrainingOrder(
                name,
                series=forecaster.training_data,
                done=done,
                requested=lambda: forecaster.requested_since_fit,
                potential_saving=forecaster.potential_saving,
                # Stored models are refitted at the age of one season, as without a restart.
                due=time.monotonic() + (0.0 if age is None else max(source[2] - age, 0.0)),
                fitted_before=age is not None,
            )
        )

    def _restore(self, name: str, forecaster: SeriesForecaster, source: Source) -> float | None:
        """Restore stored models; return their age (s), None without any."""
        stored = self.model_store.load(name, source)
        wanted = {} if stored is None else dict(stored.models)
        models = {model: wanted[model] for model in self.trainer.models if model in wanted}
        if stored is None or not models:
            return None
        forecaster.restore(models)
        return max(0.0, time.time() - stored.fitted_at)  # a time in the future counts as now

    async def _training(self, _: web.Application) -> AsyncIterator[None]:
        self.trainer.start()
        with contextlib.suppress(GeneratorExit):
            yield
        await self.trainer.stop()
        for forecaster in self.forecasters.values():
            await forecaster.close()


def _refused(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)
