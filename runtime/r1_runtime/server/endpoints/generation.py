"""`/v1/chat/completions`, `/v1/completions` and `/v1/responses`.

aiohttp cancels a handler when its client disconnects. The end of the handler releases the generation
and its cache blocks, for streams and for full responses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from aiohttp import web

from r1_runtime.errors import RequestError
from r1_runtime.output_parsing.delta import PlainText
from r1_runtime.server.api.chat import parse_chat
from r1_runtime.server.api.completion import parse_completion
from r1_runtime.server.api.generation_request import GenerationRequest, parse_priority
from r1_runtime.server.api.responses_body.body import ResponsesRequest, parse_responses
from r1_runtime.server.endpoints.common import SERVICE, json_response, parsed_body, renamed
from r1_runtime.server.output.builder import Head, ResponseBuilder
from r1_runtime.server.output.chat import ChatBuilder
from r1_runtime.server.output.completion import CompletionBuilder
from r1_runtime.server.output.responses import ResponsesBuilder
from r1_runtime.server.output.stream import full_body, write_stream
from r1_runtime.server.output.usage import UsageCounter
from r1_runtime.server.prompts import PreparedOutput
from r1_runtime.server.service import Generation, Service

MakeBuilder = Callable[[Generation, GenerationRequest], ResponseBuilder]


async def chat(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    priority = parse_priority(request.headers.get("x-r1-priority"))
    parsed, size = await parsed_body(request, partial(parse_chat, defaults=service.defaults))

    def build(generation: Generation, parsed: GenerationRequest) -> ResponseBuilder:
        parsers = [output.parser or PlainText() for output in generation.prepared]
        text_of, prompt = service.loaded().token_text, generation.prepared[0].prompt
        return ChatBuilder(_head(generation, parsed), parsed, parsers, text_of, prompt)

    return await _generate(request, replace(parsed, priority=priority), size, "chatcmpl-", build)


async def completion(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    priority = parse_priority(request.headers.get("x-r1-priority"))
    parsed, size = await parsed_body(request, partial(parse_completion, defaults=service.defaults))

    def build(generation: Generation, parsed: GenerationRequest) -> ResponseBuilder:
        prompts = [
            (_prompt_text(service, parsed, index, output) if parsed.echo else "", output.prompt)
            for index, output in enumerate(generation.prepared)
        ]
        return CompletionBuilder(
            _head(generation, parsed), parsed, prompts, service.loaded().token_text
        )

    return await _generate(request, replace(parsed, priority=priority), size, "cmpl-", build)


async def responses(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    priority = parse_priority(request.headers.get("x-r1-priority"))
    parse = partial(parse_responses, defaults=service.defaults)
    parsed, size = await parsed_body(request, parse)
    generation = replace(parsed.generation, priority=priority)
    build = partial(_responses_builder, parsed)
    try:
        return await _generate(request, generation, size, "resp_", build)
    except RequestError as error:
        raise renamed(error, "messages", "input") from error


async def stored_response(request: web.Request) -> web.StreamResponse:
    """Responses are not stored, so none can be retrieved, continued or deleted."""
    raise RequestError(
        "responses are not stored: send the whole conversation as input of a new request",
        status=404,
        param="response_id",
        code="response_not_found",
    )


def _responses_builder(
    parsed: ResponsesRequest, generation: Generation, request: GenerationRequest
) -> ResponseBuilder:
    parser = generation.prepared[0].parser or PlainText()
    return ResponsesBuilder(_head(generation, request), parsed, parser)


def _head(generation: Generation, request: GenerationRequest) -> Head:
    return Head(generation.id, request.model, int(time.time()))


async def _generate(
    request: web.Request,
    parsed: GenerationRequest,
    size: int,
    prefix: str,
    build: MakeBuilder,
) -> web.StreamResponse:
    service: Service = request.app[SERVICE]
    generation = await service.admit(parsed, prefix, size)
    try:
        lengths = [len(output.prompt) for output in generation.prepared]
        reasoning = [output.reasoning for output in generation.prepared if output.reasoning]
        usage = UsageCounter(
            lengths, parsed.n, counts_output=not parsed.no_output, reasoning=reasoning
        )
        builder = build(generation, parsed)
        if parsed.stream:
            return await write_stream(request, service, generation, builder, usage)
        response = json_response(await full_body(service, generation, builder, usage))
        # Written before the release: a drain that ends now would cut off a later write.
        await response.prepare(request)
        await response.write_eof()
        return response
    finally:
        service.release(generation)


def _prompt_text(
    service: Service, request: GenerationRequest, index: int, output: PreparedOutput
) -> str:
    """The text that an echo returns: as the client sent it, or the text of its tokens."""
    text = request.prompts[index // request.n].text
    return service.loaded().tokenizer.decode_all(output.prompt) if text is None else text
