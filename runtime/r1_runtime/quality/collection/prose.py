"""Prose in documents: which paragraphs are sentences, and which documents repeat others."""

from __future__ import annotations

import re

_WORDS = 8  # of a shingle
_SENTENCE_END = re.compile(r"(?<=[a-z)\"'][.!?])\s+(?=[A-Z])")
_LEAST_CHARACTERS = 80
_MOST_SEEN = 0.2


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is made of English sentences, not of code, tables or names."""
    if len(paragraph) < _LEAST_CHARACTERS or not paragraph.rstrip().endswith((".", "!", "?", ":")):
        return False
    plain = sum(character.isalpha() or character == " " for character in paragraph)
    words = paragraph.split()
    return (
        paragraph.isascii()
        and plain >= 0.9 * len(paragraph)
        and sum(map(len, words)) <= 8 * len(words)
        and not paragraph.isupper()
    )


def sentences(paragraph: str) -> list[str]:
    """Sentences of a paragraph."""
    return _SENTENCE_END.split(paragraph)


class SeenText:
    """Finds texts that repeat earlier ones, such as licences."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def new(self, text: str) -> bool:
        """Whether at most a fifth of a text's runs of eight words occurred before; remembers them."""
        words = text.lower().split()
        runs = {hash(tuple(words[at : at + _WORDS])) for at in range(len(words) - _WORDS + 1)}
        repeated = len(runs & self._seen)
        self._seen |= runs
        return repeated <= _MOST_SEEN * max(1, len(runs))
