"""The door for the other shards: what comes in here has been forwarded.

It leads to this shard's own subjects and nowhere else, so a question goes one way at most, whatever
two shards think of each other. One that this shard does not own is refused (421): while the number
of shards changes, lists differ for a minute, and an answer from here would begin a second home.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web

from r1_common.untrusted_json import InvalidJson, parse_json
from r1_forecasting.service.request import ForecastRequest, InvalidRequest, as_body, parse_request
from r1_forecasting.sharding.ownership import Shards

ASK = "/v1/owned/ask"
ANSWER = "/v1/owned/answer"
STANDING = "/v1/owned/standing"

MOST_PATIENCE = 60.0


Body = dict[str, Any]


class Local(Protocol):
    """The subjects of this shard."""

    async def ask(self, request: ForecastRequest, patience: float) -> Body: ...

    async def answer(self, request: ForecastRequest, patience: float) -> Body: ...

    async def standing_request(self, name: str) -> ForecastRequest | None: ...


class NotOwner(Exception):
    """The subject is another shard's."""


def add_peer_api(app: web.Application, local: Local, shards: Callable[[], Shards]) -> None:
    """Let other shards ask ``local`` about what this one owns."""

    def owned(subject: object) -> str:
        if not isinstance(subject, str):
            raise InvalidRequest("subject: needs to be a string")
        now = shards()
        if not now.owns(subject):
            raise NotOwner(f"of {len(now.addresses)} shards {now.owner(subject)} owns {subject}")
        return subject

    async def ask(body: Body) -> Body:
        request = parse_request(body.get("question"))
        owned(request.subject)
        return await local.ask(request, _patience(body))

    async def answer(body: Body) -> Body:
        request = parse_request(body.get("question"))
        owned(request.subject)
        return await local.answer(request, _patience(body))

    async def standing(body: Body) -> Body:
        found = await local.standing_request(owned(body.get("subject")))
        return {"question": None if found is None else as_body(found)}

    for path, handler in ((ASK, ask), (ANSWER, answer), (STANDING, standing)):
        app.router.add_post(path, _served(handler))


def _served(
    handler: Callable[[Body], Awaitable[Body]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(http: web.Request) -> web.Response:
        try:
            body = await http.json(loads=parse_json)
            if not isinstance(body, dict):
                raise InvalidRequest("the body needs to be a JSON object")
            return web.json_response(await handler(body))
        except (InvalidJson, UnicodeDecodeError, InvalidRequest) as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)
        except NotOwner as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.MISDIRECTED_REQUEST)

    return serve


def _patience(body: Body) -> float:
    value = body.get("patienceSeconds")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest("patienceSeconds: needs to be a number of seconds")
    return float(min(max(value, 0), MOST_PATIENCE))
