"""HTTP service: response body, invalid fields, metrics."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import generate_latest

from r1_common.contracts.forecast_request import parse_forecast_request
from r1_common.contracts.forecast_response import ReadyForecast
from r1_forecasting.options import parse_options
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.series.shape import SeriesShape
from r1_forecasting.service.service import ForecastService
from r1_forecasting.training.fit import FitOutcome, fit_one
from r1_forecasting.training.model_store import ModelStore
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable


class Sine:
    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        steps = np.arange(np.ceil(since / step), np.floor(until / step) + 1)
        at = steps * step
        values = 10 + 8 * np.sin(2 * np.pi * at / 60) + np.sin(at * 3.1)
        return from_samples(list(zip(at.tolist(), values.tolist(), strict=True)), step, until=until)


QUESTION: dict[str, Any] = {
    "series": "default/r1",
    "query": "demand",
    "stepSeconds": 1,
    "seasonSeconds": 60,
    "historySeconds": 420,
    "leadSeconds": 5,
    "horizonSeconds": 10,
    "levels": [0.5, 0.9],
}


@pytest.fixture
async def client() -> AsyncIterator[Any]:
    service = ForecastService(
        Sine(), Trainer((), TrainingQueue(0.25)), timeout_seconds=60, max_series=2
    )
    async with TestClient(TestServer(service.application())) as running:
        yield running


async def test_response_body_follows_the_contract(client: Any) -> None:
    reply = await client.post("/v1/forecast", json=QUESTION)
    assert reply.status == 200
    body = await reply.json()
    assert body["state"] == "Ready", body["message"]
    assert body.keys() == {
        "series",
        "state",
        "reason",
        "message",
        "issuedAt",
        "validUntil",
        "model",
        "gate",
        "points",
        "peakOverLead",
        "coverage",
        "lastObserved",
        "ageSeconds",
    }
    assert body["gate"].keys() == {"open", "reason", "message", "scores"}
    assert body["gate"]["scores"]["last-value"] == 1.0
    assert body["coverage"]["0.9"].keys() == {"live", "samples", "backtest"}
    assert len(body["points"]) == 10
    assert all(point["at"] > body["issuedAt"] for point in body["points"])


async def test_invalid_request_names_the_field(client: Any) -> None:
    reply = await client.post("/v1/forecast", json=QUESTION | {"levels": [2]})
    assert reply.status == 400
    assert (await reply.json())["error"].startswith("levels")
    reply = await client.post(
        "/v1/forecast", data="{", headers={"Content-Type": "application/json"}
    )
    assert reply.status == 400
    assert "not JSON" in (await reply.json())["error"]


async def test_probes_and_metrics(client: Any) -> None:
    await client.post("/v1/forecast", json=QUESTION)
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/readyz")).status == 200
    text = await (await client.get("/metrics")).text()
    assert 'r1_forecast_gate_open{series="default/r1"} 1.0' in text
    assert 'r1_forecast_decision_cost{model="last-value",series="default/r1"} 1.0' in text
    assert 'r1_forecast_responses_total{reason="BeatsLastValue",state="Ready"} 1.0' in text
    assert "r1_forecast_fit_seconds" in text


async def test_healthz_names_background_tasks_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: Any) -> None:
        raise RuntimeError("the queue is broken")

    monkeypatch.setattr(Trainer, "_run", broken)
    service = ForecastService(Sine(), Trainer(("seasonal-level",), TrainingQueue(0.5)))
    async with TestClient(TestServer(service.application())) as client:
        service.supervisor.start("shards file", lambda: broken(None))
        async with asyncio.timeout(30):
            while len(service.trainer.failing() + service.supervisor.failing()) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        body = await (await client.get("/healthz")).json()
        await service.supervisor.stop()
    assert body["failing"][0].startswith("background task 'training' failed")
    assert "RuntimeError: the queue is broken" in body["failing"][0]
    assert "'shards file'" in body["failing"][1]
    assert body["status"] == "ok", "a restart would forget every model"


async def test_decision_peak_metric_has_only_the_decision_level(
    client: Any,
) -> None:
    levels = [0.5, 0.9, 0.91, 0.95]
    for level in (0.91, 0.95):
        changed = QUESTION | {"levels": levels, "decisionLevel": level}
        body = await (await client.post("/v1/forecast", json=changed)).json()
        text = await (await client.get("/metrics")).text()
        shown = [line for line in text.splitlines() if line.startswith("r1_forecast_decision_peak")]
        (line,) = shown
        assert f'level="{level}"' in line
        assert float(line.split()[-1]) == body["peakOverLead"][f"{level}"]


async def test_series_without_requests_are_dropped_with_their_metrics(client: Any) -> None:
    for name in ("default/a", "default/b", "default/c"):
        await client.post("/v1/forecast", json=QUESTION | {"series": name})
    text = await (await client.get("/metrics")).text()
    assert "default/a" not in text
    assert "default/c" in text
    assert (await (await client.get("/healthz")).json())["series"] == 2


async def test_series_without_requests_for_a_day_are_dropped() -> None:
    now = 0.0
    service = ForecastService(
        Sine(), Trainer((), TrainingQueue(0.25)), timeout_seconds=60, clock=lambda: now
    )
    for at, name in ((0.0, "default/a"), (80_000.0, "default/b"), (90_000.0, "default/b")):
        now = at
        await service.forecast(parse_forecast_request(QUESTION | {"series": name}), 60)
    assert list(service.forecasters) == ["default/b"]


class Slow(Sine):
    """A slow Prometheus, so that the test can act during the read."""

    def __init__(self) -> None:
        self.reads = threading.Event()
        self.may_end = threading.Event()

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        self.reads.set()
        self.may_end.wait(60)
        return super().read(query, step, since, until)


async def test_series_dropped_during_a_request_leaves_no_order_and_no_gauge() -> None:
    history = Slow()
    trainer = Trainer(("prophet",), TrainingQueue(0.25))
    service = ForecastService(history, trainer, timeout_seconds=60)
    pending = asyncio.create_task(service.operator_forecast(parse_forecast_request(QUESTION), 60))
    await asyncio.to_thread(history.reads.wait, 60)
    assert service.retain_only(lambda _: False) == 1
    history.may_end.set()
    assert (await pending).state == "Ready", "the pending request still gets a response"
    assert trainer.queue.orders == {}
    assert "default/r1" not in generate_latest(service.metrics.registry).decode()


async def test_only_owned_series_are_retained() -> None:
    service = ForecastService(Sine(), Trainer((), TrainingQueue(0.25)))
    for name in ("default/a", "default/b"):
        await service.operator_forecast(parse_forecast_request(QUESTION | {"series": name}), 60)
    assert service.retain_only(lambda name: name.endswith("b")) == 1
    assert list(service.forecasters) == ["default/b"]
    assert await service.operator_request("default/a") is None
    assert await service.operator_request("default/b") is not None


@dataclass(slots=True)
class InPlace(Trainer):
    """Fits in this process and records the series."""

    fitted: list[str] = field(default_factory=list)

    async def _in_worker(self, model: str, series: Series, shape: SeriesShape) -> FitOutcome:
        self.fitted.append(model)
        return fit_one(model, series, shape)


async def scores_after(service: ForecastService, answers: int) -> Mapping[str, float]:
    """The gate's scores after a number of steps, with all tasks finished."""
    for _ in range(answers):
        response = await service.operator_forecast(parse_forecast_request(QUESTION), 60)
        await service.forecasters["default/r1"].wait_until_idle()
        await asyncio.sleep(1.05)
    assert isinstance(response, ReadyForecast)
    return response.gate.scores


async def test_restart_restores_models_and_refits_old_ones(
    tmp_path: Path,
) -> None:
    store = ModelStore(tmp_path)
    first = InPlace(("prophet",), TrainingQueue(0.25))
    service = ForecastService(Sine(), first, model_store=store)
    await service.operator_forecast(parse_forecast_request(QUESTION), 60)
    first.start()
    for _ in range(300):
        if store.load("default/r1", parse_forecast_request(QUESTION).source) is not None:
            break
        await asyncio.sleep(0.1)
    await first.stop()

    second = InPlace(("prophet",), TrainingQueue(0.25))
    restarted = ForecastService(Sine(), second, model_store=store)
    assert "prophet" in await scores_after(restarted, 3)
    assert second.fitted == []
    (order,) = second.queue.orders.values()
    assert order.fitted_before
    assert 0 < order.due - time.monotonic() < 60, "a season after it was fitted"

    other = ForecastService(Sine(), InPlace(("prophet",), TrainingQueue(0.25)), model_store=store)
    await other.operator_forecast(parse_forecast_request(QUESTION | {"query": "another"}), 60)
    assert not other.forecasters["default/r1"].learned


def test_options_come_from_the_environment_and_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("R1_FORECASTER_PROMETHEUS_URL", "http://prometheus:9090")
    monkeypatch.setenv("R1_FORECASTER_MODELS", "lstm")
    options = parse_options(["--port", "9000"])
    assert options.prometheus_url == "http://prometheus:9090"
    assert options.models == ("lstm",)
    assert options.port == 9000
    assert options.training_share == 0.25


@pytest.mark.parametrize("bad", [["--models", "arima"], ["--training-share", "0"]])
def test_bad_options_are_refused(bad: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(bad)
    assert bad[0] in capsys.readouterr().err
