"""A request body as JSON."""

from __future__ import annotations

import orjson

from r1_runtime.errors import RequestError

# Far below the limits of what reads a body later: templates, grammars, the JSON of a response.
MAX_LEVELS = 100


def read_json(body: bytes, content_type: str = "") -> object:
    """The value of a body.

    Args:
        body: UTF-8.
        content_type: as the client has named it, for the error.

    Raises:
        RequestError: 400: the body is no JSON, or is nested too deeply.
    """
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "depth limit" in str(error):
            raise _too_deep(None) from error
        is_json = content_type.endswith("json") or not content_type
        fix = "" if is_json else "; send JSON with Content-Type: application/json"
        raise RequestError(f"the body is not JSON: {error}{fix}") from error
    if body.count(b"{") + body.count(b"[") > MAX_LEVELS:
        _check_levels(value)
    return value


def _check_levels(value: object) -> None:
    """Raise RequestError for a value with more than `MAX_LEVELS` levels."""
    named: list[tuple[str | None, object]] = [(None, value)]
    if isinstance(value, dict):
        named = [(str(key)[:200], item) for key, item in value.items()]
    for name, level in named:
        inner, levels = [level], 1
        while inner:
            levels += 1
            if levels > MAX_LEVELS:
                raise _too_deep(name)
            inner = [item for container in inner for item in _items(container)]


def _items(value: object) -> list[object]:
    """The items of a list or an object that may have items themselves."""
    values: list[object] = []
    if isinstance(value, list | dict):
        values = list(value.values()) if isinstance(value, dict) else value
    return [item for item in values if isinstance(item, list | dict)]


def _too_deep(name: str | None) -> RequestError:
    where = name or "the body"
    return RequestError(f"{where} is nested more than {MAX_LEVELS} levels deep", param=name)
