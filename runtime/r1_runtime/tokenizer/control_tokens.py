"""The added tokens of a tokenizer (`<|user|>`, `</think>`): search in a text, and masking of user text.

A tokenizer replaces the string of an added token by one token number wherever it occurs. In a chat
these tokens separate the roles, so they may come from the chat template only. To tell them apart, user
text is masked before the template is rendered: each character that occurs in an added token becomes a
code point that JSON text cannot contain. The template works on the original text (`MaskedText`); the
search for added tokens works on the masked text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from os.path import commonprefix
from typing import Any, NamedTuple, Self

# JSON strings escape quotes and backslashes, so `tojson` needs the original characters.
_NEVER_MASKED = '"\\'
_SLICE = 2**16  # characters per call into C, which holds the interpreter lock


class Occurrence(NamedTuple):
    """Characters [start, end) of a text are the added token `token_id`."""

    start: int
    end: int
    token_id: int


class ControlTokens:
    """The added tokens of one tokenizer.

    Args:
        added: the entries of `added_tokens` in tokenizer.json.
    """

    def __init__(self, added: Sequence[Mapping[str, Any]]) -> None:
        entries = [entry for entry in added if entry.get("content")]
        self.ids = {str(entry["content"]): int(entry["id"]) for entry in entries}
        self._numbers = frozenset(self.ids.values())
        self._flags = {str(entry["content"]): entry for entry in entries if _has_flags(entry)}
        self._pattern = re.compile(_any_of(self.ids)) if entries else None
        self._longest = max(map(len, self.ids), default=0)
        characters = sorted(set("".join(self.ids)) - set(_NEVER_MASKED))
        maskable = [character for character in characters if not character.isspace()]
        # Lone surrogates first: neither UTF-8 nor a JSON parser accepts one.
        targets = chain(range(0xD800, 0xE000), range(0x100000, 0x10FFFE))
        self._mask = dict(zip(map(ord, maskable), islice(targets, len(maskable)), strict=True))
        self._unmask = {target: source for source, target in self._mask.items()}

    def find(self, text: str) -> list[Occurrence]:
        """All added tokens in `text`, from left to right; the longest one at each position."""
        occurrences: list[Occurrence] = []
        for match in self._matches(text):
            start, end = match.span()
            flags = self._flags.get(match[0], {})
            if flags.get("single_word") and _inside_a_word(text, start, end):
                continue
            if flags.get("lstrip"):
                first = occurrences[-1].end if occurrences else 0
                start = first + len(text[first:start].rstrip())
            if flags.get("rstrip"):
                end = len(text) - len(text[end:].lstrip())
            occurrences.append(Occurrence(start, end, self.ids[match[0]]))
        return occurrences

    def among(self, tokens: Iterable[int]) -> list[int]:
        """The added tokens among `tokens`, in order."""
        return [token for token in tokens if token in self._numbers]

    def _matches(self, text: str) -> Iterator[re.Match[str]]:
        """Matches of the added tokens' strings, searched slice by slice."""
        if self._pattern is None:
            return
        at = 0
        while at < len(text):
            border = at + _SLICE
            match = self._pattern.search(text, at, border + self._longest)
            if match is None or match.start() >= border:
                at = border
            else:
                yield match
                at = match.end()

    def mask(self, value: Any) -> Any:
        """`value` with every string masked, also in lists and objects."""
        if isinstance(value, str):
            return MaskedText(value, self._mask)
        if isinstance(value, Mapping):
            return {self.mask(key): self.mask(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask(item) for item in value]
        return value

    def unmask(self, text: str) -> str:
        """The original text of a rendered text with masked parts."""
        return _translated(text, self._unmask)


def _any_of(texts: Iterable[str]) -> str:
    """A pattern that matches the longest of the texts at a position.

    The pattern branches by character, so the cost per position depends on the length of a text and not
    on the number of texts: a published tokenizer has 818 added tokens.
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text[0], []).append(text)
    branches = []
    for group in groups.values():
        head = commonprefix(group)
        longer = [text[len(head) :] for text in group if text != head]
        optional = "?" if len(longer) < len(group) else ""
        branches.append(re.escape(head) + (f"(?:{_any_of(longer)}){optional}" if longer else ""))
    return "|".join(branches)


def _has_flags(entry: Mapping[str, Any]) -> bool:
    return any(entry.get(flag) for flag in ("single_word", "lstrip", "rstrip"))


def _inside_a_word(text: str, start: int, end: int) -> bool:
    return bool(re.search(r"\w", text[max(0, start - 1) : start] + text[end : end + 1]))


def _translated(text: str, table: Mapping[int, int]) -> str:
    if len(text) <= _SLICE:
        return text.translate(table)
    return "".join(text[at : at + _SLICE].translate(table) for at in range(0, len(text), _SLICE))


class MaskedText(str):
    """Masked text whose methods work on the original text.

    A template may inspect and cut it (`'</think>' in content`, `content.split(...)`, `content |
    trim`); concatenation results in masked characters.
    """

    __slots__ = ("_mask", "_real")
    _mask: Mapping[int, int]
    _real: str

    def __new__(cls, real: str, mask: Mapping[int, int]) -> Self:
        made = super().__new__(cls, _translated(real, mask))
        made._real, made._mask = real, mask
        return made

    def __str__(self) -> str:
        return self

    def __hash__(self) -> int:
        return hash(self._real)


def _through_the_mask(name: str) -> Callable[..., Any]:
    original = getattr(str, name)

    def method(self: MaskedText, *args: Any, **named: Any) -> Any:
        plain = [_real(argument) for argument in args]
        result = original(self._real, *plain, **{key: _real(item) for key, item in named.items()})
        return _masked(result, self._mask)

    method.__name__ = name
    return method


def _real(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_real, value))
    return value._real if isinstance(value, MaskedText) else value


def _masked(value: Any, mask: Mapping[int, int]) -> Any:
    if isinstance(value, str):
        return MaskedText(value, mask)
    if isinstance(value, list | tuple):
        return type(value)(_masked(item, mask) for item in value)
    return value


_METHODS = (
    "__contains__ __getitem__ __eq__ __ne__ __lt__ __le__ __gt__ __ge__ capitalize casefold center "
    "count endswith expandtabs find index isalnum isalpha isascii isdecimal isdigit isidentifier "
    "islower isnumeric isprintable isspace istitle isupper ljust lower lstrip partition removeprefix "
    "removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith "
    "strip swapcase title upper zfill"
)
for _name in _METHODS.split():
    setattr(MaskedText, _name, _through_the_mask(_name))
