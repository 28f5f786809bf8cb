"""`/v1/models`, `/tokenize` and `/detokenize`."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from r1_runtime.errors import RequestError
from r1_runtime.server.api.tokenization import parse_detokenize, parse_tokenize
from r1_runtime.server.endpoints.common import SERVICE, json_response, parsed_body
from r1_runtime.server.prompts import prompt_tokens
from r1_runtime.server.service import Service


async def list_models(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    models = [_model_object(service, name) for name in service.names]
    return json_response({"object": "list", "data": models})


async def one_model(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    name = request.match_info["name"]
    service.check_model(name)
    return json_response(_model_object(service, name))


def _model_object(service: Service, name: str) -> dict[str, Any]:
    model = {"id": name, "object": "model", "created": 0, "owned_by": "r1", "parent": None}
    length = {} if service.model is None else {"max_model_len": service.model.limits.max_model_len}
    return model | {"root": service.names[0]} | length


async def tokenize(request: web.Request) -> web.Response:
    """The tokens of a text, or of the prompt of a conversation."""
    service = request.app[SERVICE]
    wanted, size = await parsed_body(request, parse_tokenize)
    service.check_model(wanted.model or service.names[0])
    model = service.loaded()
    work = partial(prompt_tokens, wanted.prompt, wanted.template_variables, wanted.tools, model)
    tokens = await service.threads.run(size, work)
    texts = [model.token_text(token) for token in tokens] if wanted.with_texts else None
    return json_response(
        {
            "count": len(tokens),
            "max_model_len": model.limits.max_model_len,
            "tokens": tokens,
            "token_strs": texts,
        }
    )


async def detokenize(request: web.Request) -> web.Response:
    """The text of tokens, special ones included."""
    service = request.app[SERVICE]
    wanted, size = await parsed_body(request, parse_detokenize)
    service.check_model(wanted.model or service.names[0])
    model = service.loaded()
    if max(wanted.tokens, default=0) >= model.limits.vocabulary:
        raise RequestError(
            f"tokens has a token number of {model.limits.vocabulary} or more",
            param="tokens",
            code="token_out_of_range",
        )
    text = await service.threads.run(size, partial(model.tokenizer.decode_all, wanted.tokens))
    return json_response({"prompt": text})
