"""What every door asks: the subject's owner, whether that is here or at another shard.

The time of an answer stays bounded: the owner has the caller's patience, and the way there and back
has a second more. An owner that is silent is a typed answer. No other shard steps in for it: two of
them would train one subject, each on half of what is asked about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from r1_forecasting.protocol import ForecastUnavailable, UnavailableReason
from r1_forecasting.service import answer
from r1_forecasting.service.metrics import ForecastMetrics
from r1_forecasting.service.request import ForecastRequest, InvalidRequest, as_body, parse_request
from r1_forecasting.sharding.ownership import Shards
from r1_forecasting.sharding.peer_api import ANSWER, ASK, STANDING, Local
from r1_forecasting.sharding.peers import NoReply, PeerOutcome, Peers

WAY_SECONDS = 1.0
"""What a forwarded question may take beyond the owner's patience. The operator waits 10 s for what
the owner says within 1.5, an HPA or KEDA longer than the 4 s that their doors have."""

READY_PARTS = ("gate", "peakOverLead", "lastObserved", "points", "coverage")


@dataclass(frozen=True, slots=True)
class Routed:
    """The forecaster's answers for every subject; ``shards`` may change while this runs."""

    local: Local
    shards: Callable[[], Shards]
    peers: Peers
    metrics: ForecastMetrics

    async def ask(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        """The operator's question; at its owner it stands until the operator is silent."""
        return await self._asked(ASK, self.local.ask, request, patience)

    async def answer(self, request: ForecastRequest, patience: float) -> dict[str, Any]:
        """A question of those who are shown the answer."""
        return await self._asked(ANSWER, self.local.answer, request, patience)

    async def standing_request(self, name: str) -> ForecastRequest | ForecastUnavailable | None:
        """The operator's last question about a subject, from where it was put."""
        shards = self.shards()
        owner = shards.owner(name)
        if owner == shards.own:
            return await self.local.standing_request(name)
        reply = await self.peers.post(shards, owner, STANDING, {"subject": name}, WAY_SECONDS)
        if isinstance(reply, NoReply):
            return _unavailable(reply, owner)
        question = reply.get("question")
        try:
            return None if question is None else parse_request(question)
        except InvalidRequest as error:
            return ForecastUnavailable(
                UnavailableReason.FAILED, f"{owner} gave a question of another kind: {error}"
            )

    async def _asked(
        self,
        path: str,
        here: Callable[[ForecastRequest, float], Awaitable[dict[str, Any]]],
        request: ForecastRequest,
        patience: float,
    ) -> dict[str, Any]:
        shards = self.shards()
        owner = shards.owner(request.subject)
        if owner == shards.own:
            return await here(request, patience)
        body = {"question": as_body(request), "patienceSeconds": patience}
        reply = await self.peers.post(shards, owner, path, body, patience + WAY_SECONDS)
        said = _understood(reply, owner)
        if not isinstance(said, ForecastUnavailable):
            return said
        self.metrics.answers.labels("Unavailable", str(said.reason)).inc()
        return answer.unavailable(request.subject, said)


def _understood(
    reply: dict[str, Any] | NoReply, owner: str
) -> dict[str, Any] | ForecastUnavailable:
    """The owner's answer as it can be handed on, or why it cannot."""
    if isinstance(reply, NoReply):
        return _unavailable(reply, owner)
    state = reply.get("state")
    if state == "Ready" and all(part in reply for part in READY_PARTS):
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


def _unavailable(reply: NoReply, owner: str) -> ForecastUnavailable:
    if reply.outcome is PeerOutcome.NOT_OWNER:
        said = (
            f"the shards disagree about whose it is, as while their number changes: {reply.message}"
        )
    else:
        said = f"{owner} keeps this subject: {reply.message}"
    return ForecastUnavailable(UnavailableReason.UNREACHABLE, said)
