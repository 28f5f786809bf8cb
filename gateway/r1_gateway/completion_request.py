"""What the gateway needs to know of a request's JSON body, and nothing more.

The body goes to the engine as it came: the engine is the judge of messages, sampling and tools.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from r1_gateway.errors import bad_request

BYTES_PER_TOKEN = 4
MOST_CHOICES = 1_000_000
"""A larger ``n`` is a mistake: the engine refuses it."""


@dataclass(slots=True)  # not frozen: made once per request, and freezing doubles its cost
class CompletionRequest:
    """Model, streaming or not, and what the load estimate needs."""

    model: str
    stream: bool
    prompt_bytes: int
    max_tokens: int | None
    width: int = 1
    """sequences that the engine runs for it, each of which takes a seat"""


def parse_completion(body: bytes) -> CompletionRequest:
    """Read the body of ``/v1/chat/completions`` or ``/v1/completions``.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(document, dict):
        raise bad_request("the body must be a JSON object", code="invalid_json")
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise bad_request(
            "you must provide a model: a non-empty string, one of GET /v1/models",
            param="model",
            code="missing_model",
        )
    stream = document.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise bad_request("stream must be true or false", param="stream")
    limit = document.get("max_completion_tokens", document.get("max_tokens"))
    return CompletionRequest(
        model,
        stream is True,
        _prompt_bytes(document),
        limit if type(limit) is int and limit >= 0 else None,
        _width(document),
    )


def _width(document: dict[str, object]) -> int:
    """Sequences of a request: the choices asked for (``n``, ``best_of``) of each of its prompts."""
    choices = max(_count(document.get("n")), _count(document.get("best_of")))
    prompt = document.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return choices * len(prompt)
    return choices


def _count(value: object) -> int:
    return value if type(value) is int and 1 <= value <= MOST_CHOICES else 1


def _prompt_bytes(document: dict[str, object]) -> int:
    messages = document.get("messages")
    if not isinstance(messages, list):
        return _text_bytes(document.get("prompt"))
    total = 0
    for message in messages:
        if isinstance(message, dict):
            total += _text_bytes(message.get("content"))
    return total


def _text_bytes(content: object) -> int:
    """Bytes of text in a string, or in a list of strings, content parts, token ids or such lists."""
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode("utf-8", "replace"))
    if not isinstance(content, list):
        return 0
    total = 0
    for part in content:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            total += _text_bytes(text)
        elif isinstance(text, int):
            total += BYTES_PER_TOKEN
        elif isinstance(text, list):
            total += BYTES_PER_TOKEN * len(text)
    return total


def with_model(body: bytes, model: str) -> bytes:
    """The same body for an engine that knows the model by another name."""
    document = orjson.loads(body)
    document["model"] = model
    return orjson.dumps(document)
