"""What every door asks: the subject's owner, whether that is here or at another shard.

The time of an answer stays bounded: the owner has the caller's patience, and the way there and back
has a second more. An owner that is silent is a typed answer. No other shard steps in for it: two of
them would train one subject, each on half of what is asked about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from r1_forecasting.request import ForecastRequest, InvalidRequest, as_body, parse_request
from r1_forecasting.service import response
from r1_forecasting.service.metrics import ForecastMetrics
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
"""What a forwarded request may take beyond the owner's patience. The operator waits 10 s for what
the owner says within 1.5, an HPA or KEDA longer than the 4 s that their doors have."""

READY_FIELDS = ("gate", "peakOverLead", "lastObserved", "points", "coverage")


@dataclass(frozen=True, slots=True)
class ShardRouter:
    """The forecaster's answers for every subject; ``shards`` may change while this runs."""

    local: LocalSeries
    shards: Callable[[], Shards]
    peers: Peers
    metrics: ForecastMetrics

    async def operator_forecast(
        self, request: ForecastRequest, timeout_seconds: float
    ) -> dict[str, Any]:
        """The operator's request; at its owner it stands until the operator is silent."""
        return await self._forecast(
            OPERATOR_FORECAST_PATH, self.local.operator_forecast, request, timeout_seconds
        )

    async def forecast(self, request: ForecastRequest, timeout_seconds: float) -> dict[str, Any]:
        """A request of those who are shown the answer."""
        return await self._forecast(FORECAST_PATH, self.local.forecast, request, timeout_seconds)

    async def operator_request(self, name: str) -> ForecastRequest | ForecastUnavailable | None:
        """The operator's last request about a subject, from where it was put."""
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
            return None if request is None else parse_request(request)
        except InvalidRequest as error:
            return ForecastUnavailable(
                UnavailableReason.FAILED, f"{owner} gave a request of another kind: {error}"
            )

    async def _forecast(
        self,
        path: str,
        local: Callable[[ForecastRequest, float], Awaitable[dict[str, Any]]],
        request: ForecastRequest,
        timeout_seconds: float,
    ) -> dict[str, Any]:
        shards = self.shards()
        owner = shards.owner(request.series_name)
        if owner == shards.own:
            return await local(request, timeout_seconds)
        body = {"request": as_body(request), "timeoutSeconds": timeout_seconds}
        reply = await self.peers.post(
            shards, owner, path, body, timeout_seconds + ROUND_TRIP_SECONDS
        )
        said = _checked(reply, owner)
        if not isinstance(said, ForecastUnavailable):
            return said
        self.metrics.responses.labels("Unavailable", str(said.reason)).inc()
        return response.unavailable(request.series_name, said)


def _checked(
    reply: dict[str, Any] | NoPeerResponse, owner: str
) -> dict[str, Any] | ForecastUnavailable:
    """The owner's answer as it can be handed on, or why it cannot."""
    if isinstance(reply, NoPeerResponse):
        return _unavailable(reply, owner)
    state = reply.get("state")
    if state == "Ready" and all(part in reply for part in READY_FIELDS):
        return reply
    if (
        state == "Unavailable"
        and reply.get("reason") in set(UnavailableReason)
        and "message" in reply
    ):
        return reply
    return ForecastUnavailable(
        UnavailableReason.FAILED, f"{owner} gave an answer of another kind: {reply!s:.200}"
    )


def _unavailable(reply: NoPeerResponse, owner: str) -> ForecastUnavailable:
    if reply.outcome is PeerOutcome.NOT_OWNER:
        said = (
            f"the shards disagree about whose it is, as while their number changes: {reply.message}"
        )
    else:
        said = f"{owner} keeps this subject: {reply.message}"
    return ForecastUnavailable(UnavailableReason.UNREACHABLE, said)
