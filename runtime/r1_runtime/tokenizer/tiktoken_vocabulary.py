"""A tiktoken vocabulary: lines of a base64 token and its rank, as Qwen and Llama 3 publish it.

The file names neither the special tokens nor the rule that splits text; both are in the models' code.
They are taken from `added_tokens_decoder` of tokenizer_config.json, or from the published models.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.byte_level import added_token, byte_characters, byte_level_tokenizer
from r1_runtime.tokenizer.split_patterns import LLAMA3_TIKTOKEN, QWEN_TIKTOKEN, SplitRule

_LLAMA3_RANKS, _QWEN_RANKS = 128_000, 151_643
_LLAMA3_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    5: "<|step_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
_LLAMA3_SPECIALS = 256
_QWEN_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_EXTRA = 205


def find_tiktoken_file(folder: Path) -> Path | None:
    """The tiktoken file of a checkpoint folder, if it has one.

    A `tokenizer.model` may also be a SentencePiece file; a tiktoken file is text.
    """
    for file in (*sorted(folder.glob("*.tiktoken")), folder / "tokenizer.model"):
        if file.is_file() and _first_line_parses(file):
            return file
    return None


def read_tiktoken(path: Path, added: object = None) -> dict[str, Any]:
    """The vocabulary as the object of `tokenizer.json`.

    Args:
        path: the file.
        added: `added_tokens_decoder` of tokenizer_config.json, or None.

    Raises:
        ModelLoadError: the file is damaged, or of a model whose rule is not known.
    """
    ranks = _read_ranks(path)
    rule, specials = _rule_and_specials(path, len(ranks))
    if isinstance(added, Mapping):
        entries = [{**entry, "id": int(number)} for number, entry in added.items()]
    else:
        entries = [
            added_token(text, len(ranks) + index, special=True)
            for index, text in enumerate(specials)
        ]
    characters = byte_characters()
    texts = {token: "".join(characters[byte] for byte in token) for token in ranks}
    vocabulary = {texts[token]: rank for token, rank in ranks.items()}
    vocabulary |= {entry["content"]: entry["id"] for entry in entries}
    merges = [(texts[left], texts[right]) for left, right in _merges(ranks)]
    return byte_level_tokenizer(vocabulary, merges, entries, rule)


def _rule_and_specials(path: Path, count: int) -> tuple[SplitRule, list[str]]:
    if path.name == "qwen.tiktoken" or count == _QWEN_RANKS:
        extra = [f"<|extra_{index}|>" for index in range(_QWEN_EXTRA)]
        return QWEN_TIKTOKEN, [*_QWEN_SPECIALS, *extra]
    if count == _LLAMA3_RANKS:
        return LLAMA3_TIKTOKEN, _llama3_specials()
    raise ModelLoadError(
        path,
        f"a tiktoken vocabulary of {count} tokens, whose rule for splitting text is not known.",
        "add the model's tokenizer.json (transformers writes one with save_pretrained).",
    )


def _llama3_specials() -> list[str]:
    """Llama 3.1's; the reserved ones are numbered without the named ones, from 0 and on from 2."""
    reserved = iter(range(_LLAMA3_SPECIALS))
    return [
        _LLAMA3_NAMED.get(index) or f"<|reserved_special_token_{next(reserved)}|>"
        for index in range(_LLAMA3_SPECIALS)
    ]


def _merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that makes a token, by the rank of that token."""
    return [
        pair
        for token in sorted(ranks, key=ranks.__getitem__)
        for pair in sorted(
            (
                (token[:cut], token[cut:])
                for cut in range(1, len(token))
                if token[:cut] in ranks and token[cut:] in ranks
            ),
            key=lambda pair: (ranks[pair[0]], ranks[pair[1]]),
        )
    ]


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line:
            try:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except (ValueError, binascii.Error) as error:
                raise ModelLoadError(
                    path, f"line {number} is no token with its rank ({error}).", "copy it again."
                ) from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise ModelLoadError(path, "ranks are missing or occur twice.", "copy the file again.")
    return ranks


def _first_line_parses(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(1024)
    try:
        token, rank = line.split()
        base64.b64decode(token, validate=True)
        return int(rank) >= 0
    except (ValueError, binascii.Error):
        return False
