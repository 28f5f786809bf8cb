"""Writes a generation as a full response or as server-sent events."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from r1_runtime.engine.messages import Output
from r1_runtime.server.http_errors import error_object
from r1_runtime.server.output.builder import Event, ResponseBuilder
from r1_runtime.server.output.usage import UsageCounter
from r1_runtime.server.service import Generation, Service, failure_of, joined


async def full_body(
    service: Service, generation: Generation, builder: ResponseBuilder, usage: UsageCounter
) -> dict[str, Any]:
    """The body of a response that is not a stream.

    Raises:
        RequestError: one of the outputs failed.
    """
    whole: dict[int, Output] = {}
    async for batch in service.outputs(generation):
        for index, output in batch.items():
            failure = failure_of(output)
            if failure is not None:
                raise failure
            usage.add(index, output)
            whole[index] = joined(whole[index], output) if index in whole else output
    return builder.full([whole[index] for index in sorted(whole)], usage)


async def write_stream(
    request: web.Request,
    service: Service,
    generation: Generation,
    builder: ResponseBuilder,
    usage: UsageCounter,
) -> web.StreamResponse:
    """A stream of server-sent events; its head is written with the first token.

    An error before the first token therefore has an HTTP status of its own, and the first byte marks
    the time to first token for clients and gateways.

    Raises:
        RequestError: an output failed before the first token.
    """
    batches = service.outputs(generation)
    batch = await anext(batches)
    failures = [failure for output in batch.values() if (failure := failure_of(output))]
    if failures:
        raise failures[0]
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
    )
    await response.prepare(request)
    await response.write(_lines(_events(batch, builder, usage)))
    failed = None
    async for batch in batches:
        failed = next(filter(None, map(failure_of, batch.values())), None)
        if failed is not None:
            break
        await response.write(_lines(_events(batch, builder, usage)))
    last = (
        [Event(error_object(failed), "error" if not builder.ends_with_done else None)]
        if failed is not None
        else builder.last_events(usage)
    )
    done = b"data: [DONE]\n\n" if builder.ends_with_done else b""
    await response.write(_lines(last) + done)
    await response.write_eof()
    return response


def _events(batch: dict[int, Output], builder: ResponseBuilder, usage: UsageCounter) -> list[Event]:
    events = []
    for index, output in batch.items():
        usage.add(index, output)
        events += builder.events(index, output, usage)
    return events


def _lines(events: list[Event]) -> bytes:
    return b"".join(
        (b"" if event.name is None else b"event: " + event.name.encode() + b"\n")
        + b"data: "
        + orjson.dumps(event.data)
        + b"\n\n"
        for event in events
    )
