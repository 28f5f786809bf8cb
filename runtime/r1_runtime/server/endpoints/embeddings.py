"""`/v1/embeddings`: pooled hidden states of texts."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from r1_runtime.engine.pooling import unit
from r1_runtime.errors import RequestError
from r1_runtime.server.api.embeddings import EmbeddingRequest, parse_embeddings
from r1_runtime.server.api.generation_request import parse_priority
from r1_runtime.server.endpoints.common import SERVICE, json_response, parsed_body, renamed
from r1_runtime.server.service import Generation, Service, failure_of

Vector = NDArray[np.float32]


async def embeddings(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    priority = parse_priority(request.headers.get("x-r1-priority"))
    parsed, size = await parsed_body(request, parse_embeddings)
    _check_dimensions(parsed, service.loaded().limits.hidden_size)
    wanted = replace(parsed.generation, priority=priority)
    try:
        generation = await service.admit(wanted, "embd-", size)
    except RequestError as error:
        raise renamed(error, "prompt", "input") from error
    try:
        vectors = await _vectors(service, generation)
        tokens = sum(len(output.prompt) for output in generation.prepared)
        data = [_object(index, vectors[index], parsed) for index in sorted(vectors)]
        return json_response(
            {
                "object": "list",
                "data": data,
                "model": wanted.model,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )
    finally:
        service.release(generation)


def _check_dimensions(parsed: EmbeddingRequest, hidden_size: int) -> None:
    if parsed.dimensions is not None and parsed.dimensions > hidden_size:
        raise RequestError(
            f"dimensions must be at most {hidden_size}, the size of this model's vectors",
            param="dimensions",
            code="conflicting_parameters",
        )


async def _vectors(service: Service, generation: Generation) -> dict[int, Vector]:
    """The vector of each input."""
    vectors: dict[int, Vector] = {}
    async for batch in service.outputs(generation):
        for index, output in batch.items():
            failure = failure_of(output)
            if failure is not None:
                raise failure
            if output.embedding is not None:
                vectors[index] = output.embedding
    return vectors


def _object(index: int, vector: Vector, parsed: EmbeddingRequest) -> dict[str, Any]:
    if parsed.dimensions is not None:
        vector = unit(vector[: parsed.dimensions])
    value: object = vector.tolist()
    if parsed.base64:
        value = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return {"object": "embedding", "index": index, "embedding": value}
