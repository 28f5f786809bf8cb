"""Validation of `tools` and `tool_choice`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from r1_runtime.server.api.field_table import Field, flag
from r1_runtime.server.api.fields import bad_field, conflict
from r1_runtime.server.api.generation_request import OutputFormat, ToolRequest

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
MODES = ("none", "auto", "required")
_MAX_TOOLS = 128
FUNCTION_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": f"^{_NAME.pattern}$"},
        "description": {"type": "string"},
        "parameters": {"type": "object"},
        "strict": {"type": ["boolean", "null"]},
    },
    "required": ["name"],
}
_TOOL = {
    "type": "object",
    "properties": {"type": {"enum": ["function"]}, "function": FUNCTION_SCHEMA},
    "required": ["type", "function"],
}
_CHOICE = {
    "anyOf": [
        {"type": "string", "enum": list(MODES)},
        {
            "type": "object",
            "properties": {
                "type": {"enum": ["function"]},
                "function": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                },
            },
            "required": ["type", "function"],
        },
    ]
}


def tool_list(value: object, param: str) -> list[object]:
    """A list of tools that are not checked yet. Raises RequestError (400)."""
    if not isinstance(value, list):
        raise bad_field(param, f"{param} must be a list")
    if len(value) > _MAX_TOOLS:
        raise bad_field(param, f"{param} may have at most {_MAX_TOOLS} tools")
    return value


def _read_tools(value: object, param: str) -> tuple[Mapping[str, Any], ...]:
    items = tool_list(value, param)
    return tuple(_read_tool(tool, f"{param}[{at}]") for at, tool in enumerate(items))


def _read_tool(tool: object, where: str) -> Mapping[str, Any]:
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        raise bad_field(where, f"{where} must be an object of type function")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        raise bad_field(f"{where}.function", f"{where}.function must be an object")
    check_function(function, f"{where}.function")
    return tool


def check_function(function: Mapping[str, Any], where: str) -> None:
    """Check a function's name, description and schema. Raises RequestError (400)."""
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        field = f"{where}.name"
        raise bad_field(field, f"{field} must be 1 to 64 letters, digits, '_', '-' or '.'")
    kinds = {
        "description": (str, "text"),
        "parameters": (Mapping, "an object"),
        "strict": (bool, "true or false"),
    }
    for key, (kind, described) in kinds.items():
        if function.get(key) is not None and not isinstance(function[key], kind):
            field = f"{where}.{key}"
            raise bad_field(field, f"{field} must be {described}")


def _read_choice(value: object, param: str) -> str | tuple[str]:
    """A mode, or the name of a function in a tuple."""
    if isinstance(value, str) and value in MODES:
        return value
    function = value.get("function") if isinstance(value, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    named = isinstance(value, Mapping) and value.get("type") == "function"
    if not named or not isinstance(name, str):
        message = f"{param} must be one of {', '.join(MODES)}, or an object that names a function"
        raise bad_field(param, message)
    return (name,)


PARALLEL = flag("parallel_tool_calls", "Whether a response may have more than one call.")
FIELDS = (
    Field("tools", {"type": "array", "items": _TOOL}, _read_tools, "Functions to call."),
    Field("tool_choice", _CHOICE, _read_choice, "Which function the model must call, if any."),
    PARALLEL,
)


def tool_request(values: Mapping[str, Any]) -> ToolRequest | None:
    """The functions that the model may call; None when there are none.

    Raises:
        RequestError: 400: the choice needs a function that is not in `tools`.
    """
    definitions = values.get("tools") or ()
    choice = values.get("tool_choice", "auto")
    if choice == "none" or (choice == "auto" and not definitions):
        return None
    if not definitions:
        raise conflict("tool_choice", "tool_choice needs tools")
    parallel = bool(values.get("parallel_tool_calls", True))
    if isinstance(choice, str):
        return ToolRequest(definitions, choice, parallel=parallel)
    if choice[0] not in {tool["function"]["name"] for tool in definitions}:
        raise conflict("tool_choice", f"tool_choice: {choice[0][:64]!r} is not in tools")
    return ToolRequest(definitions, choice[0], named=True, parallel=False)


def call_format(tools: ToolRequest) -> OutputFormat | None:
    """The format of an output that must be a call: JSON of the arguments, or of a list of calls."""
    if tools.choice == "auto" and not tools.named:
        return None
    schemas = {
        tool["function"]["name"]: dict(tool["function"].get("parameters") or {"type": "object"})
        for tool in tools.definitions
    }
    if tools.named:
        return OutputFormat("call", schemas[tools.choice], "tools")
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "parameters": schema},
            "required": ["name", "parameters"],
            "additionalProperties": False,
        }
        for name, schema in schemas.items()
    ]
    # References in a function's schema are relative to the root of the whole schema.
    definitions: dict[str, Any] = {}
    for schema in schemas.values():
        definitions |= schema.pop("$defs", {})
    array: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"anyOf": calls}}
    array |= {} if tools.parallel else {"maxItems": 1}
    return OutputFormat("call", array | ({"$defs": definitions} if definitions else {}), "tools")


def only_format(tools: ToolRequest | None, given: OutputFormat | None) -> OutputFormat | None:
    """The format of an output with these tools, where the client has given a format or none.

    Raises:
        RequestError: 400: the output must be a call and have the client's format.
    """
    called = None if tools is None else call_format(tools)
    if called is not None and given is not None:
        raise conflict(given.param, f"{given.param} cannot be used with tool_choice")
    return called or given
