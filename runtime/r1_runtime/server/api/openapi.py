"""The OpenAPI document, built from the field tables that validate the bodies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from r1_runtime.server.api.chat import CHAT_FIELDS
from r1_runtime.server.api.completion import COMPLETION_FIELDS
from r1_runtime.server.api.embeddings import EMBEDDING_FIELDS
from r1_runtime.server.api.field_table import FieldTable, object_schema
from r1_runtime.server.api.responses_body.body import RESPONSES_FIELDS
from r1_runtime.server.api.tokenization import DETOKENIZE_FIELDS, TOKENIZE_FIELDS

_POSTS: Mapping[str, tuple[str, FieldTable]] = {
    "/v1/chat/completions": ("Generate the next message of a conversation.", CHAT_FIELDS),
    "/v1/completions": ("Continue a text.", COMPLETION_FIELDS),
    "/v1/responses": ("Generate a response; nothing is stored.", RESPONSES_FIELDS),
    "/tokenize": ("Tokens of a text or of a conversation.", TOKENIZE_FIELDS),
    "/detokenize": ("Text of tokens.", DETOKENIZE_FIELDS),
    "/v1/embeddings": ("Vectors of texts.", EMBEDDING_FIELDS),
}
_GETS: Mapping[str, str] = {
    "/v1/models": "Served models.",
    "/v1/models/{name}": "One served model.",
    "/health": "Whether the process can serve.",
    "/ready": "Whether the model is loaded.",
    "/version": "Version of the server.",
    "/load": "Requests in flight.",
    "/is_sleeping": "Whether the server is asleep.",
    "/openapi.json": "This document.",
}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_CAUSES: Mapping[str, str] = {
    "400": "Invalid request",
    "401": "Missing or wrong API key",
    "404": "Not found",
    "413": "Body too large",
    "415": "Unknown content encoding",
    "429": "Queue full",
    "500": "The engine failed",
    "501": "A package is not installed",
    "503": "Loading or shutting down",
}


@lru_cache(maxsize=4)
def openapi_document(version: str, models: tuple[str, ...]) -> dict[str, Any]:
    """The document of all endpoints with JSON bodies.

    Args:
        version: of the server.
        models: served names.
    """
    paths: dict[str, Any] = {path: {"get": _operation(path, text)} for path, text in _GETS.items()}
    paths["/v1/models/{name}"]["get"]["parameters"] = [
        {"name": "name", "in": "path", "required": True, "schema": {"enum": list(models)}}
    ]
    paths["/metrics"] = {
        "get": {
            "summary": "Prometheus metrics.",
            "responses": {"200": {"description": "Success", "content": {"text/plain": {}}}},
        }
    }
    schemas: dict[str, Any] = {"Error": _ERROR}
    for path, (text, fields) in _POSTS.items():
        name = "".join(part.capitalize() for part in path.split("/") if part not in ("", "v1"))
        schema = schemas[f"{name}Request"] = object_schema(fields)
        names = [*models] if fields["model"].required else [*models, None]
        schema["properties"]["model"] = {"description": fields["model"].text, "enum": names}
        reference = {"$ref": f"#/components/schemas/{name}Request"}
        body = {"required": True, "content": {"application/json": {"schema": reference}}}
        paths[path] = {"post": _operation(path, text) | {"requestBody": body}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "r1 runtime", "version": version},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(path: str, text: str) -> dict[str, Any]:
    error = {"$ref": "#/components/schemas/Error"}
    success: dict[str, Any] = {
        "description": "Success",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    responses: dict[str, Any] = {"200": success} | {
        status: {"description": cause, "content": {"application/json": {"schema": error}}}
        for status, cause in _CAUSES.items()
    }
    operation: dict[str, Any] = {"summary": text, "responses": responses}
    if path.startswith("/v1"):
        operation["security"] = [{"key": []}]
    return operation
