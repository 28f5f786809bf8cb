"""A tokenizer from the files of a published checkpoint: `tokenizer.json` or a tiktoken vocabulary.

`tokenizer_config.json` and `chat_template.jinja` belong to both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.definition import TokenizerDefinition
from r1_runtime.tokenizer.tiktoken_vocabulary import find_tiktoken_file, read_tiktoken


def read_tokenizer_files(folder: Path) -> TokenizerDefinition:
    """The tokenizer of a checkpoint folder.

    Raises:
        ModelLoadError: the folder has neither file, or one is not readable.
    """
    path = folder / "tokenizer.json"
    settings = _read_json(folder / "tokenizer_config.json") or {}
    raw: Mapping[str, Any]
    if path.is_file():
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise ModelLoadError(
                path, f"not a readable tokenizer ({error}).", "copy it again."
            ) from error
    else:
        tiktoken = find_tiktoken_file(folder)
        if tiktoken is None:
            raise ModelLoadError(
                folder, "tokenizer.json is missing.", "copy it from the model's repository."
            )
        path, raw = tiktoken, read_tiktoken(tiktoken, settings.get("added_tokens_decoder"))
    return TokenizerDefinition(
        where=path,
        raw=raw,
        special_texts=_special_texts(settings),
        adds_begin=bool(settings.get("add_bos_token")),
        chat_template=_read_template(folder, settings),
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ModelLoadError(path, f"not readable as JSON ({error}).", "copy it again.") from error
    return value if isinstance(value, dict) else None


def _special_texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """The template's variables for special tokens; begin and end are always set."""
    texts = {
        name: text
        for name in ("unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
        if (text := _token_text(settings.get(name))) is not None
    }
    for name in ("bos_token", "eos_token"):
        texts[name] = _token_text(settings.get(name)) or ""
    return texts


def _read_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The file takes precedence over the setting; of named templates, `default` is used."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_text(value: object) -> str | None:
    """The text of a token, which is a string or an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None
