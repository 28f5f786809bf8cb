"""Byte-level BPE as `tokenizer.json` writes it: one printable character per byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from r1_runtime.tokenizer.split_patterns import SplitRule

_SPACE, _DELETE, _SOFT_HYPHEN = 0x20, 0x7F, 0xAD


def byte_characters() -> list[str]:
    """GPT-2's character of each byte: printable Latin-1 stays, the others follow from U+0100 on."""
    characters = []
    for byte in range(256):
        hidden = byte <= _SPACE or _DELETE <= byte <= 0xA0 or byte == _SOFT_HYPHEN
        characters.append(None if hidden else chr(byte))
    others = iter(range(256, 512))
    return [character or chr(next(others)) for character in characters]


def byte_level_tokenizer(
    vocabulary: Mapping[str, int],
    merges: Iterable[tuple[str, str]],
    added: Iterable[Mapping[str, Any]],
    rule: SplitRule,
) -> dict[str, Any]:
    """The object of `tokenizer.json`.

    Args:
        vocabulary: number of each token, in byte characters.
        merges: pairs in order of preference.
        added: entries of `added_tokens`.
        rule: how text is split before the merges.
    """
    splits: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
        for regex in rule.patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": {"type": "NFC"} if rule.composes else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, {**byte_level, "use_regex": False}],
        },
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": rule.whole_words,
            "vocab": dict(vocabulary),
            "merges": [list(pair) for pair in merges],
        },
    }


def added_token(text: str, number: int, *, special: bool) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, **flags, "special": special}
