"""SentencePiece's BPE as `tokenizer.json` writes it: pieces with scores become ordered merges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_SPACE = "\u2581"  # SentencePiece's visible space


def sentencepiece_tokenizer(
    pieces: Sequence[str],
    scores: Sequence[float],
    added: Iterable[Mapping[str, Any]],
    *,
    unknown: str | None,
    adds_space: bool,
) -> dict[str, Any]:
    """The object of `tokenizer.json`.

    Args:
        pieces: the vocabulary; bytes are pieces such as `<0x0A>`.
        scores: of the pieces; the pair that makes the piece with the highest score merges first.
        added: entries of `added_tokens`.
        unknown: the piece for characters outside the vocabulary, or None.
        adds_space: each text between special tokens starts with a space.
    """
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if adds_space else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if adds_space else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    restore = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added),
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [restore, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": _merges(pieces, scores, vocabulary),
        },
    }


def _merges(
    pieces: Sequence[str], scores: Sequence[float], vocabulary: Mapping[str, int]
) -> list[list[str]]:
    """Every pair of pieces that makes a piece, by descending score of that piece."""
    ordered = sorted(range(len(pieces)), key=lambda number: -scores[number])
    return [
        [piece[:cut], piece[cut:]]
        for piece in (pieces[number] for number in ordered)
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
