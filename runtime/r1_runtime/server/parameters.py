"""Parameters of OpenAI's and vLLM's APIs that are not implemented, with their no-op values.

A client library that sends its defaults (`"repetition_penalty": 1.0`) must get a response. A request
for an effect (`"repetition_penalty": 1.2`) must be rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from r1_runtime.server.fields import as_number, bad_field

Neutral = Callable[[Any], bool]

# For the client's own records, or without an effect on the response.
_WITHOUT_EFFECT = frozenset(
    {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    | {"service_tier", "request_id", "cache_salt"}
)


def _is(*values: object) -> Neutral:
    """Whether the value equals one of `values` and has its type: 0 is not False."""
    return lambda value: any(type(value) is type(one) and value == one for one in values)


def _number(*values: float) -> Neutral:
    return lambda value: as_number(value) in values


def _no_entries(value: Any) -> bool:
    return isinstance(value, list | dict) and not value


def _no_bias(value: Any) -> bool:
    return isinstance(value, dict) and all(as_number(bias) == 0 for bias in value.values())


_OFF, _ON = _is(False), _is(True)
_COMMON: dict[str, Neutral] = {
    "n": _number(1),
    "best_of": _number(1),
    "presence_penalty": _number(0),
    "frequency_penalty": _number(0),
    "repetition_penalty": _number(1),
    "length_penalty": _number(1),
    "logit_bias": _no_bias,
    "logprobs": _OFF,
    "prompt_logprobs": _OFF,
    "top_k": _number(0, -1),
    "min_p": _number(0),
    "min_tokens": _number(0),
    "use_beam_search": _OFF,
    "early_stopping": _OFF,
    "echo": _OFF,
    "stop_token_ids": _no_entries,
    "allowed_token_ids": _is(),
    "bad_words": _no_entries,
    "logits_processors": _no_entries,
    "include_stop_str_in_output": _OFF,
    "skip_special_tokens": _ON,
    "spaces_between_special_tokens": _ON,
    "truncate_prompt_tokens": _is(),
    "add_special_tokens": _is(),
    "return_tokens_as_token_ids": _OFF,
    "return_token_ids": _OFF,
    "response_format": _is({"type": "text"}),
    "structured_outputs": _no_entries,
    "guided_json": _is(),
    "guided_regex": _is(),
    "guided_choice": _is(),
    "guided_grammar": _is(),
    "guided_decoding_backend": _is(),
    "guided_whitespace_pattern": _is(),
    "priority": _number(0),
    "store": _OFF,
    "kv_transfer_params": _no_entries,
    "vllm_xargs": _no_entries,
}
CHAT: Mapping[str, Neutral] = _COMMON | {
    "top_logprobs": _number(0),
    "tools": _no_entries,
    "tool_choice": _is("none", "auto"),
    "parallel_tool_calls": _is(True, False),
    "functions": _no_entries,
    "function_call": _is("none", "auto"),
    "modalities": _is(["text"]),
    "audio": _is(),
    "prediction": _is(),
    "reasoning_effort": _is("none"),
    "verbosity": _is("medium"),
    "web_search_options": _is(),
    "add_generation_prompt": _ON,
    "continue_final_message": _OFF,
    "add_special_tokens": _OFF,
    "chat_template": _is(),
    "documents": _no_entries,
    "mm_processor_kwargs": _no_entries,
    "include_reasoning": _ON,
}
COMPLETION: Mapping[str, Neutral] = _COMMON | {
    "suffix": _is(""),
    "add_special_tokens": _ON,
    "prompt_embeds": _is(),
}
STREAM_OPTIONS: Mapping[str, Neutral] = {
    "continuous_usage_stats": _OFF,
    "include_obfuscation": _OFF,
}


def check_fields(
    fields: Mapping[str, Any],
    implemented: frozenset[str],
    neutral: Mapping[str, Neutral],
    prefix: str = "",
) -> None:
    """Reject unknown fields, and fields that are not implemented unless their value is a no-op.

    Raises:
        RequestError: 400, naming the field.
    """
    for name, value in fields.items():
        if value is None or name in implemented or (not prefix and name in _WITHOUT_EFFECT):
            continue
        field = prefix + name
        if name not in neutral:
            raise bad_field(
                field, f"{field} is not a known parameter; leave it out", "unknown_parameter"
            )
        if not neutral[name](value):
            raise bad_field(
                field, f"{field} is not implemented; leave it out", "unsupported_parameter"
            )
