"""A configuration as the fields of an R1Inference."""

from __future__ import annotations

import json
from typing import Any

from r1_runtime.config import R1Config, described_fields, flag_of

_DTYPES = {"auto": "Auto", "float32": "Float32", "bfloat16": "BFloat16"}
_GROUPED: dict[str, tuple[str, str, dict[Any, str]]] = {
    "quantization": ("quantization", "weights", {"int8": "Int8", "int4": "Int4"}),
    "kv_cache_dtype": (
        *("cache", "dtype"),
        {"float32": "Float32", "float16": "Float16", "bfloat16": "BFloat16"},
    ),
    "prefix_caching": ("cache", "prefixCaching", {False: "Disabled"}),
    "speculation": ("speculation", "type", {"ngram": "NGram", "mtp": "MTP"}),
    "max_drafts": ("speculation", "maxDrafts", {}),
}
"""Object and field of `spec.runtime` for a field of `R1Config`, and the names of its values."""
_SITE = ("base_model", "threads", "device", "backend")
"""Set by the operator or the machine, not by a choice of techniques."""


def manifest(config: R1Config) -> str:
    """YAML of `spec.runtime`, and of `spec.engine.args` for options that have no field there."""
    runtime: dict[str, Any] = {}
    arguments: list[str] = []
    for each, described in described_fields(R1Config):
        value = getattr(config, each.name)
        if each.name in _SITE or value == each.default:
            continue
        field = _field(each.name, value)
        if field is not None:
            for key, given in field.items():
                known = runtime.get(key)
                runtime[key] = known | given if isinstance(known, dict) else given
            continue
        flag = flag_of(each.name, described)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        arguments += [flag] if isinstance(value, bool) else [f"{flag}={text}"]
    lines = ["spec:"] if runtime or arguments else ["spec: {}"]
    if runtime:
        lines += ["  runtime:", *(f"    {name}: {_yaml(value)}" for name, value in runtime.items())]
    if arguments:
        lines += ["  engine:", "    args:", *(f"    - {json.dumps(each)}" for each in arguments)]
    return "\n".join(lines) + "\n"


def _field(name: str, value: Any) -> dict[str, Any] | None:
    """The field of `spec.runtime` with this value, or None where there is none."""
    if name == "dtype" and value in _DTYPES:
        return {"dtype": _DTYPES[value]}
    group, key, values = _GROUPED.get(name, ("", "", {}))
    if group:
        return {group: {key: values.get(value, value)}}
    if name == "max_num_seqs":
        return {"maxConcurrentSequences": value}
    if name == "max_model_len":
        return {"maxModelLength": value}
    if name == "num_blocks":
        return {"kvCacheBlocks": value}
    return None


def _yaml(value: Any) -> str:
    """A value or a flat object in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(each)}" for name, each in value.items()) + "}"
    return str(value)
