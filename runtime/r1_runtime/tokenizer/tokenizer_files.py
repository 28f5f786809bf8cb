"""A tokenizer from the files of a published checkpoint: `tokenizer.json` or a tiktoken vocabulary.

`tokenizer_config.json` and `chat_template.jinja` belong to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_runtime.errors import ModelLoadError
from r1_runtime.json_files import read_json_object
from r1_runtime.tokenizer.definition import TokenizerDefinition
from r1_runtime.tokenizer.tiktoken_vocabulary import find_tiktoken_file, read_tiktoken


def read_tokenizer_files(folder: Path) -> TokenizerDefinition:
    """The tokenizer of a checkpoint folder.

    Raises:
        ModelLoadError: the folder has neither file, or one is not readable.
    """
    path = folder / "tokenizer.json"
    config = folder / "tokenizer_config.json"
    settings = read_json_object(config) if config.is_file() else {}
    raw: Mapping[str, Any]
    if path.is_file():
        raw = read_json_object(path)
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
        try:
            return path.read_text(encoding="utf-8")
        except (ValueError, OSError) as error:
            raise ModelLoadError(path, f"not readable ({error}).", "copy it again.") from error
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {
            item.get("name"): item.get("template") for item in template if isinstance(item, dict)
        }
        template = named.get("default")
    return template if isinstance(template, str) else None


def _token_text(value: object) -> str | None:
    """The text of a token, which is a string or an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None
