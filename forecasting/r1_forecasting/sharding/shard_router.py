"""Routing of a request to the shard that owns its series, here or at a peer.

The response time is bounded: the owner has the caller's timeout, and the round trip has
`ROUND_TRIP_SECONDS` more. An owner that does not respond yields `Unreachable`. No other shard
replaces it: two shards would train the same series, each on half of its requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from r1_common.contracts.forecast_request import (
    ForecastRequest,
    InvalidForecastRequest,
    parse_forecast_request,
    request_document,
)
from r1_common.contracts.forecast_response import (
    ForecastResponse,
    InvalidForecast,
    NoForecast,
    parse_forecast_response,
)
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.service.response import unavailable
from r1_forecasting.sharding.ownership import Shards
from r1_forecasting.sharding.peer_api import (
    FORECAST_PATH,
    OPERATOR_FORECAST_PATH,
    OPERATOR_REQUEST_PATH,
    LocalSeries,
)
from r1_forecasting.sharding.peers import NoPeerResponse, PeerOutcome, Peers
from r1_forecasting.unavailable import ForecastUnavailable, UnavailableReason

ROUND_TRIP_SECONDS = 1.0
"""Time of a forwarded request beyond the owner's timeout. The operator waits 10 s for a response
with a timeout of 1.5 s; HPA and KEDA wait longer than the 4 s of their listeners."""


@dataclass(frozen=True, slots=True)
class ShardRouter:
    """Forecasts of every series; the result of ``shards`` may change at run time."""

    local: LocalSeries
    shards: Callable[[], Shards]
    peers: Peers
    metrics: ForecastMetrics

    async def operator_forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> ForecastResponse:
        """Forward the operator's request; the owner stores it."""
        return await self._forecast(
            OPERATOR_FORECAST_PATH, self.local.operator_forecast, request, timeout_seconds
        )

    async def forecast(self, request: ForecastRequest, timeout_seconds: float) -> ForecastResponse:
        """Forward the request of a published forecast."""
        return await self._forecast(FORECAST_PATH, self.local.forecast, request, timeout_seconds)

    async def operator_request(self, name: str) -> ForecastRequest | ForecastUnavailable | None:
        """Return the operator's last request for a series from its owner."""
        shards = self.shards()
        owner = shards.owner(name)
        if owner == shards.own:
            return await self.local.operator_request(name)
        reply = await self.peers.post(
            shards, owner, OPERATOR_REQUEST_PATH, {"series": name}, ROUND_TRIP_SECONDS
        )
        if isinstance(reply, NoPeerResponse):
            return _unavailable(reply, owner)
        request = reply.get("request")
        try:
            return None if request is None else parse_forecast_request(request)
        except InvalidForecastRequest as error:
            return ForecastUnavailable(
                UnavailableReason.FAILED, f"{owner} returned an invalid request: {error}"
            )

    async def _forecast(
        self,
        path: str,
        local: Callable[[ForecastRequest, float], Awaitable[ForecastResponse]],
        request: ForecastRequest,
        timeout_seconds: float,
    ) -> ForecastResponse:
        shards = self.shards()
        owner = shards.owner(request.series_name)
        if owner == shards.own:
            return await local(request, timeout_seconds)
        body = {"request": request_document(request), "timeoutSeconds": timeout_seconds}
        reply = await self.peers.post(
            shards, owner, path, body, timeout_seconds + ROUND_TRIP_SECONDS
        )
        response = _parsed(reply, owner)
        if not isinstance(response, ForecastUnavailable):
            return response
        missing = unavailable(request.series_name, response)
        self.metrics.responses.labels(missing.state, missing.reason).inc()
        return missing


def _parsed(
    reply: dict[str, Any] | NoPeerResponse, owner: str
) -> ForecastResponse | ForecastUnavailable:
    """Return the owner's response where it is valid, else the cause."""
    if isinstance(reply, NoPeerResponse):
        return _unavailable(reply, owner)
    try:
        response = parse_forecast_response(reply)
    except InvalidForecast as error:
        return _invalid(owner, str(error))
    if isinstance(response, NoForecast) and response.reason not in set(UnavailableReason):
        return _invalid(owner, f"reason is {response.reason!s:.100}")
    return response


def _invalid(owner: str, cause: str) -> ForecastUnavailable:
    return ForecastUnavailable(
        UnavailableReason.FAILED, f"{owner} returned an invalid response: {cause}"
    )


def _unavailable(reply: NoPeerResponse, owner: str) -> ForecastUnavailable:
    if reply.outcome is PeerOutcome.NOT_OWNER:
        message = (
            f"the shards' lists differ, which lasts up to a minute after their number changes: "
            f"{reply.message}"
        )
    else:
        message = f"{owner} owns this series: {reply.message}"
    return ForecastUnavailable(UnavailableReason.UNREACHABLE, message)
