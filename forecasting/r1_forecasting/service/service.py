"""The forecaster's HTTP face: one question, three probes.

The first request for a subject answers from the quick models within a second or two and
enlists the subject for training; learned models join when they are ready.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from r1_common.foreign_json import InvalidJson, parse_json
from r1_common.supervision import Supervisor
from r1_forecasting.request import ForecastRequest, InvalidRequest, parse_request
from r1_forecasting.series.prometheus_history import DemandHistory
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.service.series_forecaster import SeriesForecaster
from r1_forecasting.training.fit import FitOutcome
from r1_forecasting.training.model_store import ModelStore, Source
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingOrder

LOG = logging.getLogger(__name__)

ForecastHandler = Callable[[ForecastRequest, float], Awaitable[dict[str, Any]]]
"""A question and the patience (s) with it, and the answer of ``POST /v1/forecast``."""

OPERATOR_TIMEOUT_SECONDS, OPERATOR_TIMEOUT_STEPS = 600.0, 5
"""After the longer of the two an operator that asks no more has given up the subject."""


@dataclass(slots=True)
class ForecastService:
    """Subjects by name. Forgotten are those that nobody asked about for ``idle_seconds``, and
    beyond ``most_subjects`` the least recently asked."""

    history: DemandHistory
    trainer: Trainer
    timeout_seconds: float = 1.5
    max_series: int = 2000
    idle_seconds: float = 86_400.0
    model_store: ModelStore = field(default_factory=lambda: ModelStore(None))
    executors: Executors = field(default_factory=Executors)
    clock: Callable[[], float] = time.monotonic
    series_clock: Callable[[], float] = time.time
    """the time by which the history's samples are dated (`SeriesClock`)"""
    metrics: ForecastMetrics = field(default_factory=ForecastMetrics)
    forecasters: OrderedDict[str, SeriesForecaster] = field(default_factory=OrderedDict)
    supervisor: Supervisor = field(default_factory=Supervisor)
    """of the background tasks beside training"""
    _enqueued: dict[str, object] = field(default_factory=dict)
    _requested_at: dict[str, float] = field(default_factory=dict)
    _operator_requests: dict[str, tuple[ForecastRequest, float]] = field(default_factory=dict)

    def application(self, handler: ForecastHandler | None = None) -> web.Application:
        """The HTTP face; ``ask`` answers the operator, ``self.ask`` unless others have a part."""
        app = web.Application(client_max_size=256 * 1024)
        app.add_routes(
            [
                web.post(
                    "/v1/forecast", partial(self.post_forecast, handler or self.operator_forecast)
                ),
                web.get("/healthz", self.healthy),
                web.get("/readyz", self.healthy),
                web.get("/metrics", self.show_metrics),
            ]
        )
        app.cleanup_ctx.append(self._training)
        return app

    async def post_forecast(self, handler: ForecastHandler, http: web.Request) -> web.Response:
        try:
            request = parse_request(await http.json(loads=parse_json))
        except (InvalidJson, UnicodeDecodeError) as error:
            return _refused(f"the body cannot be read: {error}")
        except InvalidRequest as error:
            return _refused(str(error))
        return web.json_response(await handler(request, self.timeout_seconds))

    async def operator_forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> dict[str, Any]:
        """Answer the operator: what it asks stands until it has been silent for a while."""
        self._operator_requests[request.series_name] = (request, self.clock())
        return await self.forecast(request, timeout_seconds)

    async def forecast(self, request: ForecastRequest, timeout_seconds: float) -> dict[str, Any]:
        """The answer within about ``patience`` seconds; enlists what can be trained on."""
        started = time.perf_counter()
        forecaster = self._forecaster(request.series_name)
        body = await forecaster.respond(request, timeout_seconds)
        # One that was forgotten while it answered leaves neither an order nor a gauge behind.
        if self.forecasters.get(request.series_name) is forecaster:
            if forecaster.series is not None and body["state"] == "Ready":
                self._enqueue(
                    request.series_name, forecaster, (request.source, forecaster.backfills)
                )
            self.metrics.update(request.series_name, forecaster)
        self.metrics.responses.labels(body["state"], body["reason"]).inc()
        self.metrics.response_seconds.observe(time.perf_counter() - started)
        if body["state"] != "Ready":
            return body
        # An answer stands for a step. Its reader's clock is another one, so its age goes along.
        return body | {"ageSeconds": max(0.0, forecaster.clock() - body["issuedAt"])}

    async def operator_request(self, name: str) -> ForecastRequest | None:
        """What the operator asks about a subject, None where it asks no more.

        Those who are shown the answer ask too, so it is not the last asking that counts.
        """
        request, at = self._operator_requests.get(name, (None, 0.0))
        if request is None or self.clock() - at > max(
            OPERATOR_TIMEOUT_SECONDS, OPERATOR_TIMEOUT_STEPS * request.step
        ):
            return None
        return request

    def retain_only(self, owned: Callable[[str], bool]) -> int:
        """Forget the subjects that have another home now; how many those were."""
        gone = [name for name in self.forecasters if not owned(name)]
        for name in gone:
            self._forget(name)
        return len(gone)

    async def healthy(self, _: web.Request) -> web.Response:
        """Always 200: a restart would forget every model. ``failing`` names tasks that failed."""
        failing = [*self.trainer.failing(), *self.supervisor.failing()]
        body = {"status": "ok", "series": len(self.forecasters), "failing": failing}
        return web.json_response(body)

    async def show_metrics(self, _: web.Request) -> web.Response:
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
            self._forget(oldest)
        return self.forecasters[name]

    def _forget(self, name: str) -> None:
        del self.forecasters[name], self._requested_at[name]
        self._enqueued.pop(name, None)
        self._operator_requests.pop(name, None)
        self.model_store.delete(name)
        self.trainer.remove(name)
        self.metrics.remove(name)

    def _enqueue(self, name: str, forecaster: SeriesForecaster, material: object) -> None:
        """Order training once per subject, and again for another series or a longer past."""
        if self._enqueued.get(name) == material:
            return
        source = forecaster.request.source if forecaster.request else ("", 0.0, 0.0)
        age = None if name in self._enqueued else self._restore(name, forecaster, source)
        self._enqueued[name] = material

        def done(outcome: FitOutcome) -> None:
            self.metrics.fitted(outcome)
            if self._enqueued.get(name) == material:
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
                # What was kept is refitted when it is a season old, as if nothing had happened.
                due=time.monotonic() + (0.0 if age is None else max(source[2] - age, 0.0)),
                fitted_before=age is not None,
            )
        )

    def _restore(self, name: str, forecaster: SeriesForecaster, source: Source) -> float | None:
        """Age (s) of the models that were kept over a restart; None where there are none."""
        kept = self.model_store.load(name, source)
        wanted = {} if kept is None else dict(kept.models)
        models = {model: wanted[model] for model in self.trainer.models if model in wanted}
        if kept is None or not models:
            return None
        forecaster.restore(models)
        return max(0.0, time.time() - kept.fitted_at)  # in the future: fitted just now

    async def _training(self, _: web.Application) -> AsyncIterator[None]:
        self.trainer.start()
        with contextlib.suppress(GeneratorExit):
            yield
        await self.trainer.stop()
        for forecaster in self.forecasters.values():
            await forecaster.close()


def _refused(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)
