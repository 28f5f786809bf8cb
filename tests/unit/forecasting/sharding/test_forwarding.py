"""Every shard serves every series, and each series has one owner."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from forecaster_shards import NAMES, Release, Shard, release
from r1_common.contracts.forecast_request import ForecastRequest, parse_forecast_request
from r1_common.contracts.forecast_response import NoForecast
from r1_forecasting.published.publication import InferenceName, Publication, parse_publication
from r1_forecasting.published.published_value import PublishedValue
from r1_forecasting.published.publisher import Publisher
from r1_forecasting.series.series import Series, from_samples
from r1_forecasting.service.service import ForecastService
from r1_forecasting.sharding.peer_api import (
    FORECAST_PATH,
    OPERATOR_FORECAST_PATH,
    OPERATOR_REQUEST_PATH,
)
from r1_forecasting.sharding.peers import BACKOFF_SECONDS
from r1_forecasting.training.trainer import Trainer
from r1_forecasting.training.training_queue import TrainingQueue
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

SHAPE: dict[str, Any] = {
    "query": "demand",
    "stepSeconds": 1,
    "seasonSeconds": 60,
    "historySeconds": 480,
    "leadSeconds": 50,
}


def question(series_name: str = "team-a/production-r1", **changes: Any) -> ForecastRequest:
    return parse_forecast_request(SHAPE | {"series": series_name} | changes)


def publication(name: str) -> Publication:
    return parse_publication(SHAPE | {"namespace": "shop", "name": name})


class Ramp:
    """High in the second half of each minute; the query ``young`` has 20 s of history."""

    def read(
        self, query: str, step: float, since: float, until: float
    ) -> Series | ForecastUnavailable:
        since = max(since, until - 20) if query == "young" else since
        at = np.arange(np.ceil(since / step), np.floor(until / step) + 1) * step
        values = np.where(at % 60 < 30, 2.0, 20.0)
        return from_samples(list(zip(at.tolist(), values.tolist(), strict=True)), step, until=until)


def service() -> ForecastService:
    return ForecastService(Ramp(), Trainer((), TrainingQueue(0.25)))


async def ended(made: Release) -> None:
    for shard in made.shards.values():
        for series_name in shard.home.forecasters.values():
            await series_name.close()


def unreachable(response: object) -> str:
    """The message of an unreachable response or value."""
    if isinstance(response, ForecastUnavailable):
        assert response.reason is UnavailableReason.UNREACHABLE
        return response.message
    assert isinstance(response, NoForecast)
    assert response.reason == "Unreachable"
    return response.message


async def test_each_series_has_one_owner_for_requests_at_any_shard() -> None:
    forecasters = [f"team-a/model-{number}" for number in range(9)]
    async with release(service) as made:
        for series_name in forecasters:
            answers = [
                await s.routed.operator_forecast(question(series_name), 60)
                for s in made.shards.values()
            ]
            assert {answer.state for answer in answers} == {"Ready"}
            assert {answer.series_name for answer in answers} == {series_name}
        homes = [sorted(shard.home.forecasters) for shard in made.shards.values()]
        assert sorted(name for home in homes for name in home) == forecasters
        assert all(homes), "nine subjects on three shards: none stays empty"
        await ended(made)


async def test_operator_requests_are_stored_at_the_owner() -> None:
    async with release() as made:
        request = question(activation="Always", classQueries={"Q1": "urgent"})
        door, other = made.others(request.series_name)
        await door.routed.operator_forecast(request, 1)
        for shard in made.shards.values():
            assert await shard.routed.operator_request(request.series_name) == request
        assert await other.routed.operator_request("team-a/nobody") is None
        assert door.home.operator_requests == other.home.operator_requests == {}


async def test_requests_for_published_values_do_not_extend_the_operators_request() -> None:
    async with release() as made:
        (door, _), owner = made.others("team-a/x"), made.owner("team-a/x")
        await door.routed.forecast(question("team-a/x"), 1)
        assert (owner.home.shown, owner.home.requests) == (["team-a/x"], [])
        assert await door.routed.operator_request("team-a/x") is None


async def test_any_shard_serves_an_inference_and_its_classes() -> None:
    async with release(service) as made:
        request = question(activation="Always", classQueries={"Q1": "urgent"})
        await made[NAMES[0]].routed.operator_forecast(request, 60)
        for shard in made.shards.values():
            for name in (None, "Q1"):
                wanted = InferenceName("team-a", "production-r1", name)
                shown = await Publisher(shard.routed, timeout_seconds=60).value_of(wanted)
                assert isinstance(shown, PublishedValue), shown
        owned = [name for shard in made.shards.values() for name in shard.home.forecasters]
        assert sorted(owned) == ["team-a/production-r1", "team-a/production-r1/Q1"]
        await ended(made)


async def test_any_shard_serves_published_forecasts_and_young_series() -> None:
    async with release(service) as made:
        for name, query in (("orders", "demand"), ("fresh", "young")):
            wanted = parse_publication(SHAPE | {"namespace": "shop", "name": name, "query": query})
            for shard in made.shards.values():
                shown = await Publisher(shard.routed, timeout_seconds=60).value_of(wanted)
                assert isinstance(shown, PublishedValue), shown
                assert (shown.reason == "TooLittleHistory") is (query == "young")
                assert shown.value in (2.0, pytest.approx(20.0, rel=0.1))
        await ended(made)


async def test_owner_without_a_response_is_reported_and_not_replaced() -> None:
    async with release() as made:
        series_name = "team-a/production-r1"
        owner = made.owner(series_name)
        await made.leaves(owner.name)
        for door in made.others(series_name):
            response = unreachable(await door.routed.operator_forecast(question(series_name), 1))
            assert f"{owner.name} owns this series" in response
            shown = await Publisher(door.routed).value_of(InferenceName("team-a", "production-r1"))
            assert owner.name in unreachable(shown)
            assert (door.home.requests, door.home.shown, door.hops) == ([], [], [])
            counted = door.routed.metrics.forwarded.labels(owner.name, "NoResponse")
            assert counted._value.get() == 2
            refused = door.routed.metrics.responses.labels("Unavailable", "Unreachable")
            assert refused._value.get() == 1


async def test_published_forecast_of_a_shard_without_a_response_is_unreachable() -> None:
    async with release() as made:
        wanted = publication("orders")
        owner = made.owner(wanted.request.series_name)
        door, _ = made.others(wanted.request.series_name)
        await made.leaves(owner.name)
        assert owner.name in unreachable(await Publisher(door.routed).value_of(wanted))


async def test_series_of_other_shards_are_served_while_one_shard_is_down() -> None:
    async with release() as made:
        await made.leaves(NAMES[1])
        request = [f"team-a/model-{number}" for number in range(30)]
        there = [s for s in request if made.owner(s).name != NAMES[1]]
        for series_name in request:
            response = await made[NAMES[0]].routed.operator_forecast(question(series_name), 1)
            assert (response.reason == "NoData") is (series_name in there)
        assert sorted(made[NAMES[0]].home.requests + made[NAMES[2]].home.requests) == sorted(there)


async def test_owner_serves_again_after_its_return() -> None:
    async with release() as made:
        series_name = "team-a/production-r1"
        door, _ = made.others(series_name)
        assert (await door.routed.operator_forecast(question(series_name), 1)).reason == "NoData"
        await made.returns(made.owner(series_name).name)
        assert (await door.routed.operator_forecast(question(series_name), 1)).reason == "NoData"


@pytest.mark.parametrize("broken", [1, 2])
async def test_connection_closed_during_a_request_is_reopened_once(broken: int) -> None:
    """As after a restart of the owner, when the keep-alive connection is closed."""
    tried = 0

    async def ending(http: web.Request) -> web.Response:
        nonlocal tried
        tried += 1
        if tried <= broken and http.transport is not None:
            http.transport.abort()
        response = {"series": series_name, "state": "Unavailable", "reason": "NoData"}
        response["message"] = "nothing yet"
        return web.json_response(response)

    app = web.Application()
    app.router.add_post(OPERATOR_FORECAST_PATH, ending)
    async with release() as made:
        series_name = "team-a/production-r1"
        owner, (door, _) = made.owner(series_name), made.others(series_name)
        await made.returns(owner.name, app)
        response = await door.routed.operator_forecast(question(series_name), 1)
        assert response.reason == ("NoData" if broken == 1 else "Unreachable")
        assert tried == 2


async def test_shard_without_a_response_is_skipped_for_a_while_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with release() as made:
        series_name = "team-a/production-r1"
        owner, (door, _) = made.owner(series_name), made.others(series_name)
        await made.leaves(owner.name)
        for made.now in (0.0, BACKOFF_SECONDS, 2 * BACKOFF_SECONDS):
            unreachable(await door.routed.operator_forecast(question(series_name), 1))
        assert caplog.text.count("forecasts of its series are unavailable here") == 1
        await made.returns(owner.name)
        assert "did not respond in the last" in unreachable(
            await door.routed.operator_forecast(question(series_name), 1)
        )
        made.now = 3 * BACKOFF_SECONDS
        assert (await door.routed.operator_forecast(question(series_name), 1)).reason == "NoData"


async def test_hanging_owner_is_awaited_no_longer_than_the_timeout() -> None:
    ends = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        await ends.wait()
        return web.Response()

    app = web.Application()
    app.router.add_post(OPERATOR_FORECAST_PATH, never)
    async with release() as made:
        series_name = "team-a/production-r1"
        owner, (door, _) = made.owner(series_name), made.others(series_name)
        await made.returns(owner.name, app)
        response = await asyncio.wait_for(
            door.routed.operator_forecast(question(series_name), 0.1), 60
        )
        assert "did not respond within 1.1 s" in unreachable(response)
        ends.set()


def disagreeing(made: Release) -> tuple[Shard, Shard, str]:
    """Two shards whose lists each name the other as the owner of a series."""
    first, second = made[NAMES[0]], made[NAMES[1]]
    first.knows[:], second.knows[:] = [second.name], [first.name]
    return first, second, "team-a/production-r1"


async def test_shards_with_different_lists_report_it_and_create_no_forecaster() -> None:
    async with release() as made:
        first, second, series_name = disagreeing(made)
        for door, other in ((first, second), (second, first)):
            response = unreachable(await door.routed.operator_forecast(question(series_name), 1))
            assert "the shards' lists differ" in response
            assert f"{door.name} owns series {series_name}" in response, "what the other one thinks"
            assert other.hops.pop() == OPERATOR_FORECAST_PATH
            assert other.hops == door.hops == [], "one way, and no way on"
        unreachable(await first.routed.operator_request(series_name))
        unreachable(await first.routed.forecast(question(series_name), 1))
        assert second.hops == [OPERATOR_REQUEST_PATH, FORECAST_PATH]
        assert (
            first.home.requests
            == second.home.requests
            == first.home.shown
            == second.home.shown
            == []
        )
        counted = first.routed.metrics.forwarded.labels(second.name, "NotOwner")
        assert counted._value.get() == 3


async def test_shard_with_another_list_is_requested_again_without_a_pause() -> None:
    """The outdated list is updated within a minute; the shard does respond."""
    async with release() as made:
        first, second, series_name = disagreeing(made)
        unreachable(await first.routed.operator_forecast(question(series_name), 1))
        second.knows[:] = [second.name]
        assert (await first.routed.operator_forecast(question(series_name), 1)).reason == "NoData"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "[]"),
        (200, "no JSON"),
        (200, '{"state": "Ready", "peakOverLead": {}}'),
        (200, '{"state": "Unavailable", "reason": "Tired", "message": ""}'),
        (404, "404: Not Found"),
        (500, ""),
    ],
)
async def test_invalid_owner_response_becomes_a_typed_reason(status: int, body: str) -> None:
    async def strange(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    for path in (OPERATOR_FORECAST_PATH, OPERATOR_REQUEST_PATH):
        app.router.add_post(path, strange)
    async with release() as made:
        series_name = "team-a/production-r1"
        owner, (door, _) = made.owner(series_name), made.others(series_name)
        await made.returns(owner.name, app)
        response = await door.routed.operator_forecast(question(series_name), 1)
        assert response.state == "Unavailable"
        assert response.reason in ("Unreachable", "Failed")
        assert owner.name in response.message
        made.now = BACKOFF_SECONDS
        request = await door.routed.operator_request(series_name)
        assert request is None or isinstance(request, ForecastUnavailable)


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (OPERATOR_FORECAST_PATH, "[]", "the body needs to be a JSON object"),
        (OPERATOR_FORECAST_PATH, "{", "Expecting"),
        (FORECAST_PATH, "{}", "the body needs to be a JSON object"),
        (OPERATOR_REQUEST_PATH, '{"series": 1}', "series: needs to be a string"),
    ],
)
async def test_peer_api_refuses_invalid_bodies(path: str, body: str, expected: str) -> None:
    async with release() as made:
        url = made.address(NAMES[0]) + path
        async with aiohttp.ClientSession() as client, client.post(url, data=body) as reply:
            assert reply.status == 400
            assert expected in (await reply.json())["error"]
