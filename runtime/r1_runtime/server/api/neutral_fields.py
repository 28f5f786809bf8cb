"""Parameters of OpenAI's and vLLM's APIs that are not implemented, with their no-op values.

A client library that sends its defaults (`"length_penalty": 1.0`) must get a response. A request for
an effect (`"length_penalty": 1.2`) must be rejected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from r1_runtime.server.api.field_table import Field
from r1_runtime.server.api.fields import as_number, bad_field

Neutral = Callable[[Any], bool]
_TEXT = "Not implemented: only values without an effect are accepted."


def without_effect(name: str) -> Field:
    """A field of any value, for the client's own records or without an effect on the response."""
    return Field(name, {}, lambda value, _: value, "Accepted; it has no effect.")


def neutral(name: str, is_neutral: Neutral, *values: object, reason: str = "") -> Field:
    """A field that may only have a value without an effect.

    Args:
        name: of the field.
        is_neutral: whether a value has no effect.
        values: examples of such values.
        reason: end of the error message.
    """

    def read(value: object, param: str) -> None:
        if not is_neutral(value):
            message = f"{param} is not implemented{reason or '; leave it out'}"
            raise bad_field(param, message, "unsupported_parameter")

    return Field(name, {"enum": list(values)} if values else {"type": "null"}, read, _TEXT)


def only(name: str, *values: object, reason: str = "") -> Field:
    """Values of exactly these types: 0 is not false."""
    return neutral(
        name,
        lambda value: any(type(value) is type(one) and value == one for one in values),
        *values,
        reason=reason,
    )


def only_numbers(name: str, *values: float) -> Field:
    return neutral(name, lambda value: as_number(value) in values, *values)


def empty(name: str) -> Field:
    """An empty list or object."""
    return neutral(name, lambda value: isinstance(value, list | dict) and not value, [], {})


RECORDS = tuple(
    without_effect(name)
    for name in (
        "user",
        "metadata",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "service_tier",
        "request_id",
        "session_id",
    )
)
COMMON = (
    *RECORDS,
    only_numbers("best_of", 1),
    only_numbers("length_penalty", 1),
    only("use_beam_search", False),
    only("early_stopping", False),
    only("allowed_token_ids"),
    empty("bad_words"),
    empty("logits_processors"),
    only("include_stop_str_in_output", False),
    only("skip_special_tokens", True),
    only("spaces_between_special_tokens", True),
    only("truncate_prompt_tokens"),
    only("return_tokens_as_token_ids", False),
    only("guided_decoding_backend"),
    only("guided_whitespace_pattern"),
    only_numbers("priority", 0),
    only("store", False),
    empty("kv_transfer_params"),
    empty("vllm_xargs"),
    only("detailed_usage", False),
)
CHAT = (
    empty("functions"),
    only("function_call", "none", "auto"),
    only("modalities", ["text"]),
    only("audio"),
    only("prediction"),
    only("verbosity", "medium"),
    only("web_search_options"),
    only("add_generation_prompt", True),
    only("continue_final_message", False),
    only("add_special_tokens", False),
    only("chat_template"),
    empty("documents"),
    empty("mm_processor_kwargs"),
)
COMPLETION = (
    only("suffix", ""),
    only("add_special_tokens", True),
    only("prompt_embeds"),
)
STREAM_OPTIONS = (only("include_obfuscation", False),)
