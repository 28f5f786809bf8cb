"""`tools` and `tool_choice` of `/v1/responses`, as those of a chat.

A function is a flat object here, and an object within an object in a chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1_runtime.server.api import tools
from r1_runtime.server.api.field_table import Field
from r1_runtime.server.api.fields import bad_field

_FUNCTION_KEYS = ("name", "description", "parameters", "strict")
_TOOL = {
    "type": "object",
    "properties": {"type": {"enum": ["function"]}, **tools.FUNCTION_SCHEMA["properties"]},
    "required": ["type", "name"],
}
_CHOICE = {
    "anyOf": [
        {"type": "string", "enum": list(tools.MODES)},
        {
            "type": "object",
            "properties": {"type": {"enum": ["function"]}, "name": {"type": "string"}},
            "required": ["type", "name"],
        },
    ]
}


def _read_tools(value: object, param: str) -> tuple[Mapping[str, Any], ...]:
    items = tools.tool_list(value, param)
    return tuple(_read_tool(tool, f"{param}[{at}]") for at, tool in enumerate(items))


def _read_tool(tool: object, where: str) -> Mapping[str, Any]:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if not isinstance(tool, Mapping) or kind != "function":
        raise bad_field(
            f"{where}.type",
            f"{where}.type must be function; the server has no tools of its own",
            "unsupported_parameter" if isinstance(kind, str) else None,
        )
    function = {key: tool[key] for key in _FUNCTION_KEYS if tool.get(key) is not None}
    tools.check_function(function, where)
    return {"type": "function", "function": function}


def _read_choice(value: object, param: str) -> str | tuple[str]:
    """A mode, or the name of a function in a tuple."""
    if isinstance(value, str) and value in tools.MODES:
        return value
    if isinstance(value, Mapping) and value.get("type") == "function":
        name = value.get("name")
        if isinstance(name, str):
            return (name,)
    raise bad_field(
        param,
        f"{param} must be one of {', '.join(tools.MODES)}, or an object that names a function",
    )


FIELDS = (
    Field("tools", {"type": "array", "items": _TOOL}, _read_tools, "Functions to call."),
    Field("tool_choice", _CHOICE, _read_choice, "Which function the model must call, if any."),
    tools.PARALLEL,
)
