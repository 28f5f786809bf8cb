"""`generation_config.json`: sampling parameters that a model's authors recommend.

As in vLLM, they are the defaults of a request; values in the request take precedence. Further fields
are ignored, also as in vLLM, and the log names those that might have changed an output.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1_runtime.errors import ModelLoadError
from r1_runtime.json_files import read_json_object

_log = logging.getLogger("r1_runtime")
# Fields without an effect on an output of this server, and values that mean the same as no field.
_RECORDS = frozenset({"_from_model_config", "bos_token_id", "pad_token_id", "transformers_version"})
_READ = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "max_new_tokens",
        "eos_token_id",
    }
)
_NEUTRAL: Mapping[str, object] = {
    "do_sample": True,
    "use_cache": True,
    "num_beams": 1,
    "num_return_sequences": 1,
    "length_penalty": 1,
    "early_stopping": False,
    "no_repeat_ngram_size": 0,
    "typical_p": 1,
}


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """Defaults for parameters that a request leaves out.

    Attributes:
        temperature: 0 to 2.
        top_p: above 0, at most 1.
        top_k: 0 for all tokens.
        min_p: 0 to 1.
        repetition_penalty: above 0, at most 10.
        presence_penalty: -2 to 2.
        frequency_penalty: -2 to 2.
        max_tokens: limit of a chat; None is the rest of the context.
        eos_ids: further tokens that end an output.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int | None = None
    eos_ids: tuple[int, ...] = ()


def read_generation_defaults(folder: Path) -> GenerationDefaults:
    """Read `folder/generation_config.json`; without the file, return the built-in defaults.

    Raises:
        ModelLoadError: the file is not readable, or a value is out of its range.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return GenerationDefaults()
    raw = read_json_object(path)
    ignored = sorted(name for name, value in raw.items() if _is_ignored(name, value))
    if ignored:
        shown = ", ".join(f"{name}={raw[name]!r}"[:80] for name in ignored)
        _log.warning("%s: ignored: %s. Requests can set what the API has.", path, shown)
    return GenerationDefaults(
        temperature=_number(raw, "temperature", 1.0, (0.0, 2.0), path),
        top_p=_number(raw, "top_p", 1.0, (math.ulp(0.0), 1.0), path),
        top_k=max(0, int(_number(raw, "top_k", 0, (-1, 2**31 - 1), path))),
        min_p=_number(raw, "min_p", 0.0, (0.0, 1.0), path),
        repetition_penalty=_number(raw, "repetition_penalty", 1.0, (math.ulp(0.0), 10.0), path),
        presence_penalty=_number(raw, "presence_penalty", 0.0, (-2.0, 2.0), path),
        frequency_penalty=_number(raw, "frequency_penalty", 0.0, (-2.0, 2.0), path),
        max_tokens=_count(raw, "max_new_tokens", path),
        eos_ids=_token_ids(raw.get("eos_token_id"), path),
    )


def _is_ignored(name: str, value: object) -> bool:
    """Whether a field is not read, and might have an effect elsewhere."""
    if name in _READ or name in _RECORDS or value is None:
        return False
    return name not in _NEUTRAL or value != _NEUTRAL[name]


def _number(
    raw: Mapping[str, Any], name: str, default: float, limits: tuple[float, float], path: Path
) -> float:
    value = raw.get(name)
    if value is None:
        return default
    least, most = limits
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        fix = f"use a value that requests may have: {least:.3g} to {most:.3g}."
        raise ModelLoadError(path, f"{name} is {value!r}.", fix)
    return float(value)


def _count(raw: Mapping[str, Any], name: str, path: Path) -> int | None:
    value = raw.get(name)
    if value is not None and (type(value) is not int or value < 1):
        raise ModelLoadError(path, f"{name} is {value!r}.", "use a whole number of at least 1.")
    return value


def _token_ids(value: object, path: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(item) is int and item >= 0 for item in values):
        raise ModelLoadError(
            path, f"eos_token_id is {value!r}.", "use an integer or a list of integers."
        )
    return tuple(values)
