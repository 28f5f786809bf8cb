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

from r1_common.supervision import Supervisor
from r1_common.untrusted_json import InvalidJson, parse_json
from r1_forecasting.selection.model_store import ModelFolder, Source
from r1_forecasting.selection.training import FitOutcome, Trainer
from r1_forecasting.selection.training_queue import Order
from r1_forecasting.series.prometheus_history import DemandHistory
from r1_forecasting.service.executors import Executors
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.service.request import ForecastRequest, InvalidRequest, parse_request
from r1_forecasting.service.series_forecaster import SeriesForecaster

LOG = logging.getLogger(__name__)

Ask = Callable[[ForecastRequest, float], Awaitable[dict[str, Any]]]
"""A question and the patience (s) with it, and the answer of ``POST /v1/forecast``."""

SILENT_SECONDS, SILENT_STEPS = 600.0, 5
"""After the longer of the two an operator that asks no more has given up the subject."""


@dataclass(slots=True)
class ForecastService:
    """Subjects by name. Forgotten are those that nobody asked about for ``idle_seconds``, and
    beyond ``most_subjects`` the least recently asked."""

    history: DemandHistory
    trainer: Trainer
    patience: float = 1.5
    most_subjects: int = 2000
    idle_seconds: float = 86_400.0
    kept: ModelFolder = field(default_factory=lambda: ModelFolder(None))
    lanes: Executors = field(default_factory=Executors)
    clock: Callable[[], float] = time.monotonic
    series_clock: Callable[[], float] = time.time
    """the time by which the history's samples are dated (`SeriesClock`)"""
    metrics: ForecastMetrics = field(default_factory=ForecastMetrics)
    subjects: OrderedDict[str, SeriesForecaster] = field(default_factory=OrderedDict)
    supervisor: Supervisor = field(default_factory=Supervisor)
    """of the background tasks beside training"""
    _enlisted: dict[str, object] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict)
    _standing: dict[str, tuple[ForecastRequest, float]] = field(default_factory=dict)

    def application(self, ask: Ask | None = None) -> web.Application:
        """The HTTP face; ``ask`` answers the operator, ``self.ask`` unless others have a part."""
        app = web.Application(client_max_size=256 * 1024)
        app.add_routes(
            [
                web.post("/v1/forecast", partial(self.forecast, ask or self.ask)),
                web.get("/healthz", self.healthy),
                web.get("/readyz", self.healthy),
                web.get("/metrics", self.show_metrics),
            ]
        )
        app.cleanup_ctx.append(self._training)
        return app

    async def forecast(self, ask: Ask, http: web.Request) -> web.Response:
        try:
            request = parse_request(await http.json(loads=parse_json))
        except (InvalidJson, UnicodeDecodeError) as error:
            return _refused(f"the body cannot be read: {error}")
        except InvalidRequest as error:
            return _refused(str(error))
        return web.json_response(await ask(request, self.patience))

    async def ask(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        """Answer the operator: what it asks stands until it has been silent for a while."""
        self._standing[request.subject] = (request, self.clock())
        return await self.answer(request, patience)

    async def answer(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        """The answer within about ``patience`` seconds; enlists what can be trained on."""
        started = time.perf_counter()
        subject = self._subject(request.subject)
        body = await subject.answer(request, patience)
        # One that was forgotten while it answered leaves neither an order nor a gauge behind.
        if self.subjects.get(request.subject) is subject:
            if subject.series is not None and body["state"] == "Ready":
                self._enlist(request.subject, subject, (request.source, subject.pasts))
            self.metrics.show(request.subject, subject)
        self.metrics.answers.labels(body["state"], body["reason"]).inc()
        self.metrics.answer_seconds.observe(time.perf_counter() - started)
        if body["state"] != "Ready":
            return body
        # An answer stands for a step. Its reader's clock is another one, so its age goes along.
        return body | {"ageSeconds": max(0.0, subject.clock() - body["issuedAt"])}

    async def standing_request(self, name: str) -> ForecastRequest | None:
        """What the operator asks about a subject, None where it asks no more.

        Those who are shown the answer ask too, so it is not the last asking that counts.
        """
        request, at = self._standing.get(name, (None, 0.0))
        if request is None or self.clock() - at > max(SILENT_SECONDS, SILENT_STEPS * request.step):
            return None
        return request

    def keep_only(self, owned: Callable[[str], bool]) -> int:
        """Forget the subjects that have another home now; how many those were."""
        gone = [name for name in self.subjects if not owned(name)]
        for name in gone:
            self._forget(name)
        return len(gone)

    async def healthy(self, _: web.Request) -> web.Response:
        """Always 200: a restart would forget every model. ``failing`` names tasks that failed."""
        failing = [*self.trainer.failing(), *self.supervisor.failing()]
        body = {"status": "ok", "subjects": len(self.subjects), "failing": failing}
        return web.json_response(body)

    async def show_metrics(self, _: web.Request) -> web.Response:
        self.metrics.subjects.set(len(self.subjects))
        self.metrics.waiting.set(self.trainer.queue.waiting(time.monotonic()))
        return web.Response(
            body=generate_latest(self.metrics.registry),
            headers={"Content-Type": CONTENT_TYPE_LATEST},
        )

    def _subject(self, name: str) -> SeriesForecaster:
        now = self.clock()
        if name not in self.subjects:
            self.subjects[name] = SeriesForecaster(self.history, self.lanes, self.series_clock)
        self.subjects.move_to_end(name)
        self._asked_at[name] = now
        oldest = next(iter(self.subjects))
        if (
            len(self.subjects) > self.most_subjects
            or now - self._asked_at[oldest] > self.idle_seconds
        ):
            self._forget(oldest)
        return self.subjects[name]

    def _forget(self, name: str) -> None:
        del self.subjects[name], self._asked_at[name]
        self._enlisted.pop(name, None)
        self._standing.pop(name, None)
        self.kept.drop(name)
        self.trainer.dismiss(name)
        self.metrics.forget(name)

    def _enlist(self, name: str, subject: SeriesForecaster, material: object) -> None:
        """Order training once per subject, and again for another series or a longer past."""
        if self._enlisted.get(name) == material:
            return
        source = subject.request.source if subject.request else ("", 0.0, 0.0)
        age = None if name in self._enlisted else self._restore(name, subject, source)
        self._enlisted[name] = material

        def done(outcome: FitOutcome) -> None:
            self.metrics.fitted(outcome)
            if self._enlisted.get(name) == material:
                subject.join(outcome)
                if outcome.model == self.trainer.models[-1]:
                    self.kept.keep(name, source, time.time(), subject.learned)

        self.trainer.enlist(
            Order(
                name,
                series=subject.training_material,
                done=done,
                wanted=lambda: subject.asked_since_fit,
                worth=subject.to_gain,
                # What was kept is refitted when it is a season old, as if nothing had happened.
                due=time.monotonic() + (0.0 if age is None else max(source[2] - age, 0.0)),
                fitted_before=age is not None,
            )
        )

    def _restore(self, name: str, subject: SeriesForecaster, source: Source) -> float | None:
        """Age (s) of the models that were kept over a restart; None where there are none."""
        kept = self.kept.find(name, source)
        wanted = {} if kept is None else dict(kept.models)
        models = {model: wanted[model] for model in self.trainer.models if model in wanted}
        if kept is None or not models:
            return None
        subject.restore(models)
        return max(0.0, time.time() - kept.fitted_at)  # in the future: fitted just now

    async def _training(self, _: web.Application) -> AsyncIterator[None]:
        self.trainer.start()
        with contextlib.suppress(GeneratorExit):
            yield
        await self.trainer.stop()
        for subject in self.subjects.values():
            await subject.close()


def _refused(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)
