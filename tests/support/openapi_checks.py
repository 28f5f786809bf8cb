"""Checks of schemathesis, in the process that `SCHEMATHESIS_HOOKS` starts with this module."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import GenerationMode

# Codes of requests that are valid by their schema, and not together, or not with this model.
RELATED = frozenset(
    {
        "conflicting_parameters",
        "context_length_exceeded",
        "invalid_grammar",
        "template_error",
        "token_out_of_range",
        "too_many_outputs",
        "unsupported_endpoint",
        "unsupported_parameter",
    }
)


@schemathesis.check
def valid_request_is_served(ctx: Any, response: Any, case: Any) -> None:
    """A body that is valid by the document is refused only for how its fields go together."""
    mode = case.meta.generation.mode if case.meta is not None else None
    if mode is not GenerationMode.POSITIVE or response.status_code != 400:
        return
    error = response.json()["error"]
    assert error["code"] in RELATED, f"a valid body is refused: {error['message']}"


@schemathesis.check
def refusal_names_the_field(ctx: Any, response: Any, case: Any) -> None:
    """A refused body has an error of its own text, without traces of the server's code."""
    if response.status_code != 400 or not isinstance(case.body, dict):
        return
    error = response.json()["error"]
    assert error["param"] is not None, error["message"]
    assert error["param"].split(".")[0].split("[")[0][:30] in error["message"], error
    assert "Traceback" not in error["message"]
    assert "site-packages" not in error["message"]
