"""HTTP API for the other shards: ``POST /v1/owned/...``.

It serves this shard's own series only and forwards nothing, so a request takes one hop at most. A
request for another shard's series is refused with 421 Misdirected Request: while the number of
shards changes, lists differ for up to a minute, and a response would create a second forecaster of
the series.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web

from r1_common.contracts.forecast_request import (
    ForecastRequest,
    InvalidForecastRequest,
    parse_forecast_request,
    request_document,
)
from r1_common.contracts.forecast_response import ForecastResponse, forecast_document
from r1_common.untrusted_json import InvalidJson, parse_json
from r1_forecasting.sharding.ownership import Shards

OPERATOR_FORECAST_PATH = "/v1/owned/operator-forecast"
FORECAST_PATH = "/v1/owned/forecast"
OPERATOR_REQUEST_PATH = "/v1/owned/operator-request"

MAX_TIMEOUT_SECONDS = 60.0


Body = dict[str, Any]


class LocalSeries(Protocol):
    """The series of this shard."""

    async def operator_forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> ForecastResponse: ...

    async def forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> ForecastResponse: ...

    async def operator_request(self, name: str) -> ForecastRequest | None: ...


class NotOwner(Exception):
    """Another shard owns the series."""


def add_peer_api(app: web.Application, local: LocalSeries, shards: Callable[[], Shards]) -> None:
    """Serve the series that this shard owns to other shards."""

    def owned(series_name: object) -> str:
        if not isinstance(series_name, str):
            raise InvalidForecastRequest("series: needs to be a string")
        now = shards()
        if not now.owns(series_name):
            raise NotOwner(
                f"{now.owner(series_name)} owns series {series_name} among {len(now.addresses)} shards"
            )
        return series_name

    async def operator_forecast(body: Body) -> Body:
        request = parse_forecast_request(body.get("request"))
        owned(request.series_name)
        return forecast_document(await local.operator_forecast(request, _patience(body)))

    async def forecast(body: Body) -> Body:
        request = parse_forecast_request(body.get("request"))
        owned(request.series_name)
        return forecast_document(await local.forecast(request, _patience(body)))

    async def operator_request(body: Body) -> Body:
        request = await local.operator_request(owned(body.get("series")))
        return {"request": None if request is None else request_document(request)}

    for path, handler in (
        (OPERATOR_FORECAST_PATH, operator_forecast),
        (FORECAST_PATH, forecast),
        (OPERATOR_REQUEST_PATH, operator_request),
    ):
        app.router.add_post(path, _served(handler))


def _served(
    handler: Callable[[Body], Awaitable[Body]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(http: web.Request) -> web.Response:
        try:
            body = await http.json(loads=parse_json)
            if not isinstance(body, dict):
                raise InvalidForecastRequest("the body needs to be a JSON object")
            return web.json_response(await handler(body))
        except (InvalidJson, UnicodeDecodeError, InvalidForecastRequest) as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)
        except NotOwner as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.MISDIRECTED_REQUEST)

    return serve


def _patience(body: Body) -> float:
    value = body.get("timeoutSeconds")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidForecastRequest("timeoutSeconds: needs to be a number of seconds")
    return float(min(max(value, 0), MAX_TIMEOUT_SECONDS))
