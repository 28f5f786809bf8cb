"""A tokenizer from the metadata of a GGUF file: byte-level BPE (`gpt2`) or SentencePiece (`llama`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r1_runtime.checkpoint.gguf_header import GgufStrings, Metadata, read_header
from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.byte_level import added_token, byte_level_tokenizer
from r1_runtime.tokenizer.definition import TokenizerDefinition
from r1_runtime.tokenizer.sentencepiece_bpe import sentencepiece_tokenizer
from r1_runtime.tokenizer.split_patterns import SPLIT_RULES

_UNKNOWN, _CONTROL, _USER_DEFINED = 2, 3, 4
_FIX = "convert the model again."

# Control tokens that end a message in some template, besides the one that the file names.
_END_TEXTS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>")


def read_gguf_tokenizer(file: Path) -> TokenizerDefinition:
    """The tokenizer in the metadata of a GGUF file (the first, of numbered parts).

    Raises:
        ModelLoadError: the file is unreadable, has no vocabulary, or one that is not implemented.
    """
    return gguf_tokenizer(read_header(file).metadata, file)


def gguf_tokenizer(metadata: Metadata, where: Path) -> TokenizerDefinition:
    """The tokenizer that the metadata describe; see `read_gguf_tokenizer`."""
    model = metadata.get("tokenizer.ggml.model")
    tokens = _strings(metadata, "tokens", where)
    types = metadata.get("tokenizer.ggml.token_type")
    kinds = types.tolist() if isinstance(types, np.ndarray) else [1] * len(tokens)
    if len(kinds) != len(tokens):
        raise ModelLoadError(where, f"{len(tokens)} tokens, but {len(kinds)} types.", _FIX)
    added = [
        added_token(text, number, special=kind != _USER_DEFINED)
        for number, (text, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in (_UNKNOWN, _CONTROL, _USER_DEFINED) and text
    ]
    if model == "gpt2":
        raw, adds_begin = _byte_level(metadata, tokens, added, where)
    elif model == "llama":
        raw, adds_begin = _sentencepiece(metadata, tokens, kinds, added, where), True
    else:
        raise ModelLoadError(
            where,
            f"tokenizer.ggml.model {model!r} is not implemented.",
            "serve a model with a gpt2 or llama vocabulary, or use llama.cpp.",
        )
    template = metadata.get("tokenizer.chat_template")
    flag = metadata.get("tokenizer.ggml.add_bos_token")
    return TokenizerDefinition(
        where=where,
        raw=raw,
        special_texts=_special_texts(metadata, tokens),
        adds_begin=flag if isinstance(flag, bool) else adds_begin,
        chat_template=template if isinstance(template, str) else None,
        end_ids=_end_ids(metadata, added),
    )


def _byte_level(
    metadata: Metadata, tokens: Sequence[str], added: Sequence[dict[str, Any]], where: Path
) -> tuple[dict[str, Any], bool]:
    name = metadata.get("tokenizer.ggml.pre", "default")
    rule = SPLIT_RULES.get(str(name))
    if rule is None:
        raise ModelLoadError(
            where,
            f"tokenizer.ggml.pre {name!r} is not implemented.",
            f"serve a model with one of {', '.join(SPLIT_RULES)}, or use llama.cpp.",
        )
    # A token may contain a space itself only at its start.
    merges = [
        (merge[:cut], merge[cut + 1 :])
        for merge in _strings(metadata, "merges", where)
        if (cut := merge.find(" ", 1)) > 0
    ]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    return byte_level_tokenizer(vocabulary, merges, added, rule), rule.adds_begin


def _sentencepiece(
    metadata: Metadata,
    tokens: Sequence[str],
    kinds: Sequence[int],
    added: Sequence[dict[str, Any]],
    where: Path,
) -> dict[str, Any]:
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or len(scores) != len(tokens):
        raise ModelLoadError(where, "tokenizer.ggml.scores is missing or has another length.", _FIX)
    unknown = next((number for number, kind in enumerate(kinds) if kind == _UNKNOWN), None)
    return sentencepiece_tokenizer(
        tokens,
        scores.tolist(),
        added,
        unknown=None if unknown is None else tokens[unknown],
        adds_space=bool(metadata.get("tokenizer.ggml.add_space_prefix", True)),
    )


def _strings(metadata: Metadata, name: str, where: Path) -> list[str]:
    value = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(value, GgufStrings):
        raise ModelLoadError(where, f"tokenizer.ggml.{name} is missing.", _FIX)
    return value.decode()


def _special_texts(metadata: Metadata, tokens: Sequence[str]) -> dict[str, str]:
    """The template's variables for special tokens; begin and end are always set."""
    names = {"unknown": "unk_token", "padding": "pad_token", "seperator": "sep_token"}
    names |= {name: f"{name}_token" for name in ("cls", "mask", "bos", "eos")}
    texts = {"bos_token": "", "eos_token": ""}
    for name, variable in names.items():
        number = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(number, int) and 0 <= number < len(tokens):
            texts[variable] = tokens[number]
    return texts


def _end_ids(metadata: Metadata, added: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    named = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    texts = {entry["content"]: int(entry["id"]) for entry in added}
    ends = [number for number in named if isinstance(number, int)]
    return tuple(dict.fromkeys([*ends, *(texts[text] for text in _END_TEXTS if text in texts)]))
