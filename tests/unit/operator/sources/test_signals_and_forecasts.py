"""Sources of the scaling loop: signals, forecasts, start-up times."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from r1_common.contracts.forecast_request import request_document
from r1_common.contracts.unavailable import Unavailable
from r1_operator.api.scaling import Activation, ForecastSpec, MetricType
from r1_operator.kube.kinds import Key
from r1_operator.plan.scaling.policy import MetricTarget
from r1_operator.plan.signals.forecast import ReceivedForecast
from r1_operator.plan.signals.lead_time import LeadTime
from r1_operator.plan.snapshot import Pod
from r1_operator.sources.forecast import ForecastClient, build_forecast_query, forecast_metric
from r1_operator.sources.gateways import GatewayDirectory
from r1_operator.sources.lead_time import DEFAULT_SECONDS, StartTimes, quantile
from r1_operator.sources.signals import GatewaySignals

KEY = Key("default", "r1")
ROUTE = {
    "offeredRequests": {"Q1": 5, "Q2": 7},
    "offeredTokens": {"Q1": 50, "Q2": 70},
    "completed": {"Q1": 1},
    "failed": {},
    "rejected": {},
    "cancelled": {},
    "queued": {"Q2": 3},
    "oldestWaitSeconds": {"Q1": 1.5, "Q2": 4.0},
    "inFlight": {"Q1": 2},
    "inFlightByEndpoint": {"10.1.0.4:8000": 2, "[fd00::4]:8000": 1},
    "queuedWithoutEndpoints": 1,
    "seats": 16,
    "readyEndpoints": 2,
}


class Served:
    """An HTTP server with scripted responses."""

    def __init__(self) -> None:
        self.url = ""
        self.answer: Any = None
        self.status = 200
        self.delay = 0.0
        self.requests = 0
        self.puts: list[tuple[str, Any]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.requests += 1
        if request.method == "PUT":
            self.puts.append((request.path, await request.json()))
        await asyncio.sleep(self.delay)
        return web.json_response(self.answer, status=self.status)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A server on a free port."""
    site = Served()
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", site.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


async def test_signals_are_summed_over_classes_and_silent_gateways_are_missing(
    served: Served,
) -> None:
    served.answer = {
        "gateway": "its-own-name",
        "startedAt": 100.0,
        "at": 200.0,
        "routes": {"default/r1": ROUTE},
    }
    directory = GatewayDirectory(None, urls=(served.url, "http://127.0.0.1:9"))
    signals = GatewaySignals(directory, timeout_seconds=1.0, now=lambda: 1000.0)
    reading = await signals.read()
    (sample,) = reading.routes["default/r1"]
    assert sample.offered_requests == 12
    assert sample.queued == 3
    assert sample.oldest_wait_seconds == 4.0
    assert sample.received_at == 1000.0
    assert sample.in_flight_by_pod == {"10.1.0.4": 2, "fd00::4": 1}
    assert sample.offered_by_class == {"Q1": 5, "Q2": 7, "Q3": 0}
    assert sample.seat_seconds is None, "a gateway of before does not say"
    assert sample.gateway in reading.gateways, "the name by which it is missed when it is silent"
    assert len(reading.gateways) == 2
    assert len(reading.silent) == 1
    await signals.close()


@pytest.mark.parametrize("answer", [None, [], {"routes": 5}, {"gateway": "g", "routes": {}}])
async def test_an_invalid_signals_response_counts_as_silent(served: Served, answer: Any) -> None:
    served.answer = answer
    signals = GatewaySignals(GatewayDirectory(None, urls=(served.url,)), timeout_seconds=1.0)
    reading = await signals.read()
    assert reading.routes == {}
    assert len(reading.silent) == 1
    await signals.close()


async def test_a_slow_gateway_does_not_delay_the_poll(served: Served) -> None:
    served.delay = 30.0
    signals = GatewaySignals(GatewayDirectory(None, urls=(served.url,)), timeout_seconds=0.1)
    reading = await asyncio.wait_for(signals.read(), 10)
    assert len(reading.silent) == 1
    await signals.close()


async def test_seat_reservations_are_sent_to_every_gateway_despite_failures(
    served: Served,
) -> None:
    served.status = 404
    directory = GatewayDirectory(None, urls=("http://127.0.0.1:9", served.url))
    signals = GatewaySignals(directory, timeout_seconds=1.0)
    await signals.reserve_seats({"default/r1": {"Q1": 3}}, 10.0)
    assert served.puts == [
        ("/seat-reservations", {"validSeconds": 10.0, "routes": {"default/r1": {"Q1": 3}}})
    ]
    await signals.close()


def question(seconds: float = 45.0) -> Any:
    return build_forecast_query(KEY, ForecastSpec(), MetricType.REQUESTS_PER_SECOND, seconds, 60)


def test_the_forecast_request_matches_the_contract() -> None:
    query = question(42.3)
    assert request_document(query.request) == {
        "series": "default/r1",
        "query": (
            "sum(max by (instance, class) (rate(r1_gateway_requests_offered_total"
            '{inference_namespace="default",inference="r1"}[60s])))'
        ),
        "stepSeconds": 60,
        "seasonSeconds": 86400,
        "historySeconds": 1209600,
        "leadSeconds": 75.0,  # 42.3, and half of the 60 s by which a minute's mean comes late
        "horizonSeconds": 600,
        "levels": [0.5, 0.9, 0.91, 0.95],
        "decisionLevel": 0.91,
        "weekly": False,
        "activation": "RequireBacktest",
        "classQueries": {
            name: (
                "sum(max by (instance, class) (rate(r1_gateway_requests_offered_total"
                f'{{inference_namespace="default",inference="r1",class="{name}"}}[60s])))'
            )
            for name in ("Q1", "Q2", "Q3")
        },
    }


def test_the_forecast_request_follows_the_spec() -> None:
    ask = ForecastSpec(activation=Activation.ALWAYS, quantile_percent=97)
    request = build_forecast_query(KEY, ask, MetricType.TOKENS_PER_SECOND, 45.0, 60).request
    assert request.levels == (0.5, 0.9, 0.95, 0.97)
    assert request.decision_level == 0.97
    assert request.activation == "Always"
    assert "tokens_offered" in dict(request.class_queries)["Q3"]


def test_only_arrivals_are_forecast() -> None:
    concurrency, requests = (
        MetricTarget(MetricType.CONCURRENCY, 4),
        MetricTarget(MetricType.REQUESTS_PER_SECOND, 4),
    )
    assert forecast_metric((concurrency, requests)) is MetricType.REQUESTS_PER_SECOND
    assert forecast_metric((concurrency,)) is None


async def settle(forecaster: ForecastClient) -> ReceivedForecast | Unavailable:
    """Send a request and wait for the forecast."""
    for _ in range(200):
        answer = forecaster.latest(KEY, question())
        if not isinstance(answer, Unavailable) or answer.reason != "Pending":
            return answer
        await asyncio.sleep(0.02)
    raise TimeoutError("no answer")


async def test_reading_a_forecast_never_blocks_and_polls_once_per_step(served: Served) -> None:
    served.delay = 0.2
    served.answer = FOR_A_MINUTE
    forecaster = ForecastClient(served.url)
    first = forecaster.latest(KEY, question())
    assert isinstance(first, Unavailable)
    assert first.reason == "Pending"
    answer = await settle(forecaster)
    assert isinstance(answer, ReceivedForecast)
    assert answer.peak_over_lead == {0.9: 12.0}
    for _ in range(50):
        forecaster.latest(KEY, question())
    await asyncio.sleep(0.3)
    assert served.requests == 1
    await forecaster.close()


async def test_a_changed_lead_time_is_polled_at_once(served: Served) -> None:
    served.answer = {
        "series": "default/r1",
        "state": "Unavailable",
        "reason": "Training",
        "message": "m",
    }
    forecaster = ForecastClient(served.url)
    await settle(forecaster)
    for seconds in (45.0, 44.0, 20.0, 20.0):  # a pod was measured: 20 s instead of 45
        forecaster.latest(KEY, question(seconds))
        await asyncio.sleep(0.1)
    assert served.requests == 2
    await forecaster.close()


@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (
            200,
            {"series": "default/r1", "state": "Unavailable", "reason": "Training", "message": "m"},
            "Training",
        ),
        (200, {"state": "Ready"}, "Invalid"),
        (200, "nonsense", "Refused"),
        (400, {"error": "levels"}, "Refused"),
        (500, {}, "Refused"),
    ],
)
async def test_an_invalid_forecast_response_has_a_reason(
    served: Served, status: int, answer: Any, reason: str
) -> None:
    served.status, served.answer = status, answer
    forecaster = ForecastClient(served.url)
    settled_forecast = await settle(forecaster)
    assert isinstance(settled_forecast, Unavailable)
    assert settled_forecast.reason == reason
    await forecaster.close()


async def test_an_unreachable_forecaster_is_reported_as_unreachable() -> None:
    forecaster = ForecastClient("http://127.0.0.1:9")
    settled_forecast = await settle(forecaster)
    assert isinstance(settled_forecast, Unavailable)
    assert settled_forecast.reason == "Unreachable"
    await forecaster.close()


FOR_A_MINUTE: dict[str, Any] = {
    "series": "default/r1",
    "state": "Ready",
    "reason": "r",
    "message": "m",
    "model": "lstm",
    "issuedAt": 1.0,
    "validUntil": 61.0,
    "gate": {"open": True, "reason": "r", "message": "m", "scores": {}},
    "points": [],
    "peakOverLead": {"0.9": 12.0},
    "coverage": {},
    "lastObserved": {"at": 1.0, "value": 9.0},
}


@pytest.mark.parametrize(("later", "is_valid"), [(50.0, True), (500.0, False)])
async def test_a_forecast_stays_valid_until_it_expires_while_the_forecaster_fails(
    served: Served, later: float, is_valid: bool
) -> None:
    served.answer = FOR_A_MINUTE
    clock = [40.0]
    forecaster = ForecastClient(served.url, timeout_seconds=0.2, now=lambda: clock[0])
    assert isinstance(await settle(forecaster), ReceivedForecast)
    clock[0] = later
    served.delay = 1.0  # longer than the client waits
    forecaster.expire(KEY)
    forecaster.latest(KEY, question())
    await asyncio.sleep(0.5)
    assert isinstance(forecaster.latest(KEY, question()), ReceivedForecast) is is_valid
    await forecaster.close()


@pytest.mark.parametrize(("reason", "is_valid"), [("Unreachable", True), ("NoData", False)])
async def test_a_forecast_stays_valid_while_its_forecaster_shard_is_down(
    served: Served, reason: str, is_valid: bool
) -> None:
    """The response of another shard about an unreachable shard does not replace the forecast."""
    served.answer = FOR_A_MINUTE
    forecaster = ForecastClient(served.url, now=lambda: 50.0)
    assert isinstance(await settle(forecaster), ReceivedForecast)
    served.answer = {
        "series": "default/r1",
        "state": "Unavailable",
        "reason": reason,
        "message": "r1-forecaster-1 is",
    }
    forecaster.expire(KEY)
    requests = served.requests
    forecaster.latest(KEY, question())
    for _ in range(200):
        if (
            served.requests > requests
            and isinstance(forecaster.latest(KEY, question()), ReceivedForecast) is is_valid
        ):
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert isinstance(forecaster.latest(KEY, question()), ReceivedForecast) is is_valid
    await forecaster.close()


def pod(uid: str, took: float | None, restarts: int = 0) -> Pod:
    return Pod(
        name=uid,
        uid=uid,
        phase="Running",
        ready=took is not None,
        created_at=100.0,
        scheduled_at=100.0,
        ready_at=None if took is None else 100.0 + took,
        restarts=restarts,
    )


def test_lead_time_has_a_default_until_a_start_is_measured() -> None:
    starts = StartTimes()
    starts.observe([pod("a", None), pod("b", 5.0, restarts=1)])
    assert starts.lead(2.0) == LeadTime(DEFAULT_SECONDS + 2.0, 0)
    starts.observe([pod("a", 30.0)])
    assert starts.lead(2.0).seconds == 32.0


def test_a_pod_that_loses_readiness_and_regains_it_is_measured_once() -> None:
    starts = StartTimes()
    starts.observe([pod("a", 30.0)])
    starts.observe([pod("a", 5000.0)])
    assert list(starts.seconds) == [30.0]


def test_the_quantile_is_the_nearest_rank() -> None:
    assert quantile(range(1, 11), 0.9, 0.0) == 9
    assert quantile([7.0], 0.9, 0.0) == 7.0
    assert quantile([], 0.9, 4.0) == 4.0
