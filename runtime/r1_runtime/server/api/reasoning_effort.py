"""The reasoning effort of a chat, as variables of the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1_runtime.server.api.field_table import Field, one_of

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def effort_field(name: str) -> Field:
    """The field of an effort."""
    return one_of(name, _EFFORTS, "Passed to the chat template; none turns reasoning off there.")


def template_variables(values: Mapping[str, Any], effort: str | None) -> dict[str, Any]:
    """The variables of the chat template.

    As in vLLM, an effort sets `reasoning_effort` and `enable_thinking`. A template that reads neither
    is not affected, and `chat_template_kwargs` takes precedence.
    """
    variables: dict[str, Any] = {}
    if effort is not None:
        variables = {"reasoning_effort": effort, "enable_thinking": effort != "none"}
    return variables | dict(values.get("chat_template_kwargs", {}))
