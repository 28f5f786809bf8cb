"""The fields of a completion request that the gateway reads.

The body is forwarded unchanged; the engine validates messages, sampling and tools.  A large body is
scanned once, and no objects are made for fields that are not read: 8 MiB of ``[],[],`` take 70 ms
this way and 1.6 s as lists.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

import msgspec
import orjson

from r1_gateway.http.errors import ApiError, bad_request

BYTES_PER_TOKEN = 4
MOST_CHOICES = 1_000_000
"""A larger ``n`` counts as 1: the engine rejects it."""
MOST_PROMPTS = 4096
"""Most prompts of a request that are counted: no pod has more seats."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
EXACT_BYTES = 1 << 14
_ABSENT = msgspec.Raw()
_INLINE_DATA = b";base64,"
_INLINE_PARTS = 256
_DIGITS = 18
FIELDS_BYTES = 1 << 18
MODEL_PLACES = 4


class _Fields(msgspec.Struct, gc=False):
    """The top-level fields that are read, as raw JSON; of a repeated field the last wins."""

    model: msgspec.Raw = _ABSENT
    stream: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    max_tokens: msgspec.Raw = _ABSENT
    max_completion_tokens: msgspec.Raw = _ABSENT
    n: msgspec.Raw = _ABSENT
    best_of: msgspec.Raw = _ABSENT


_DECODE = msgspec.json.Decoder(_Fields).decode
_DECODE_ALL = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(slots=True)  # not frozen: made for each request, and freezing doubles the cost
class CompletionRequest:
    """Model, streaming or not, and the inputs of the load estimate."""

    model: str
    stream: bool
    prompt_bytes: int
    max_tokens: int | None
    width: int = 1
    """Sequences that the engine runs for the request; each takes a seat."""


def parse_completion(body: bytes) -> CompletionRequest:
    """Read the body of ``/v1/chat/completions`` or ``/v1/completions``.

    Raises:
        ApiError: 400, naming the field.
    """
    if len(body) > EXACT_BYTES:
        return _scan(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _not_json(str(error)) from None
    if not isinstance(document, dict):
        raise _not_an_object()
    model = document.get("model")
    if not isinstance(model, str) or not model:
        raise _no_model()
    stream = document.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong_stream()
    limit = document.get("max_completion_tokens", document.get("max_tokens"))
    several = "n" in document or "prompt" in document or "best_of" in document
    return CompletionRequest(
        model,
        stream is True,
        _prompt_bytes(document),
        limit if type(limit) is int and limit >= 0 else None,
        _width(document) if several else 1,
    )


def _width(document: dict[str, object]) -> int:
    """Sequences of a request: its choices (``n``, ``best_of``) times its prompts."""
    choices = max(_count(document.get("n")), _count(document.get("best_of")))
    prompt = document.get("prompt")
    if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int):
        return choices * len(prompt)
    return choices


def _count(value: object) -> int:
    return value if type(value) is int and 1 <= value <= MOST_CHOICES else 1


def _raw_width(fields: _Fields) -> int:
    """The same from JSON, without an object for each prompt."""
    choices = max(_raw_count(bytes(fields.n)), _raw_count(bytes(fields.best_of)))
    prompt = bytes(fields.prompt)
    first = prompt[1:].lstrip(b" \r\n\t")[:1] if prompt[:1] == b"[" else b""
    if first == b'"':
        prompts = sum(1 for _ in islice(_STRING.finditer(prompt), MOST_PROMPTS))
    elif first == b"[":  # lists of token ids: no text holds a bracket
        prompts = prompt.count(b"[") - 1
    else:
        prompts = 1
    return choices * max(1, prompts)


def _raw_count(value: bytes) -> int:
    return _count(int(value)) if value.isdigit() and len(value) <= _DIGITS else 1


def _scan(body: bytes) -> CompletionRequest:
    """The same for a large body, in time and memory that do not depend on its content."""
    try:
        if not body.isascii():
            body.decode()
        fields = _DECODE(body)
    except msgspec.ValidationError:
        raise _not_an_object() from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(str(error)) from None
    except RecursionError:
        raise _not_json("nested too deeply") from None
    model = bytes(fields.model)
    if len(model) < 3 or model[0] != 34:  # a quotation mark: a non-empty string
        raise _no_model()
    stream = bytes(fields.stream)
    if stream not in (b"true", b"", b"false", b"null"):
        raise _wrong_stream()
    limit = bytes(fields.max_completion_tokens) or bytes(fields.max_tokens)
    return CompletionRequest(
        msgspec.json.decode(model, type=str),
        stream == b"true",
        _raw_prompt_bytes(bytes(fields.messages), bytes(fields.prompt)),
        int(limit) if limit.isdigit() and len(limit) <= _DIGITS else None,
        _raw_width(fields),
    )


def _not_an_object() -> ApiError:
    return bad_request("the body must be a JSON object", code="invalid_json")


def _no_model() -> ApiError:
    return bad_request(
        "the field 'model' is missing or not a string: use one of GET /v1/models",
        param="model",
        code="missing_model",
    )


def _wrong_stream() -> ApiError:
    return bad_request("the field 'stream' must be true or false", param="stream")


def _not_json(problem: str) -> ApiError:
    return bad_request(f"the body is not JSON: {problem}", code="invalid_json")


def _prompt_bytes(document: dict[str, object]) -> int:
    messages = document.get("messages")
    if not isinstance(messages, list):
        return _text_bytes(document.get("prompt"))
    total = 0
    for message in messages:
        if isinstance(message, dict):
            total += _text_bytes(message.get("content"))
    return total


def _raw_prompt_bytes(messages: bytes, prompt: bytes) -> int:
    """The same from JSON: exact up to ``EXACT_BYTES`` of it, estimated beyond."""
    field, text = ("messages", messages) if messages[:1] == b"[" else ("prompt", prompt)
    if not text:
        return 0
    if len(text) <= EXACT_BYTES:
        with suppress(orjson.JSONDecodeError):  # a number that no float holds
            return _prompt_bytes({field: orjson.loads(text)})
    return _estimate_bytes(text)


def _estimate_bytes(text: bytes) -> int:
    """Bytes of text, estimated by the size of the JSON without inline files and escapes."""
    if text[:1] == b"[" and text[1:64].lstrip(b" [\r\n\t")[:1].isdigit():
        return BYTES_PER_TOKEN * (text.count(b",") + 1)  # token ids
    total = len(text) - 3 * text.count(b"\\u") - text.count(b"\\n")
    at = 0
    for _ in range(_INLINE_PARTS):
        at = text.find(_INLINE_DATA, at)
        if at < 0:
            break
        end = text.find(b'"', at)
        total -= end - at
        at = end
    return max(total, 0)


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
    """The body with another model name; all other values are unchanged.

    ``body`` has been read by :func:`parse_completion`.

    Raises:
        ApiError: 400, nested too deeply, or the model of a large body cannot be replaced in place.
    """
    name = orjson.dumps(model)
    try:
        if len(body) > FIELDS_BYTES:
            return _replace_model(body, name)
        fields = _DECODE_ALL(body)
    except RecursionError:  # the parser of small bodies reads a little deeper
        raise _not_json("nested too deeply") from None
    fields["model"] = msgspec.Raw(name)
    return msgspec.json.encode(fields)


def _replace_model(body: bytes, name: bytes) -> bytes:
    """Replace the model in the text: decoding a million fields would take a second."""
    text = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*' + re.escape(bytes(_DECODE(body).model)))
    for place in reversed(list(islice(text.finditer(body), MODEL_PLACES))):
        changed = b'%s"model":%s%s' % (body[: place.start()], name, body[place.end() :])
        if bytes(_DECODE(changed).model) == name:  # else this place is in a nested object
            return changed
    raise bad_request(
        "the field 'model' of a large body must occur once and without escapes", param="model"
    )
