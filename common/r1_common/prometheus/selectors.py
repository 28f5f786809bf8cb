"""Label matchers for every selector of a PromQL query.

One store may have the series of several clusters. The matchers of the configuration restrict every
query to one of them, queries of users included. A selector that already matches one of the labels
keeps its own matcher: the author of the query chose another value.

The lexical rules are those of https://prometheus.io/docs/prometheus/latest/querying/basics/. A text
that does not follow them is returned unchanged: Prometheus rejects it with a better message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+|\#[^\n]*)
  | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`[^`]*`)
  | (?P<number>\.?[0-9][0-9a-zA-Z_.]*)
  | (?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*)
  | (?P<range>\[[^\]]*\])
  | (?P<symbol>[(){},=!<>~+\-*/%^@])
    """,
    re.VERBOSE | re.DOTALL,
)
_BINARY: Final = frozenset({"and", "or", "unless", "atan2"})
_MODIFIERS: Final = frozenset({"on", "ignoring", "group_left", "group_right"})
_GROUPING: Final = frozenset({"by", "without"})
_NUMBERS: Final = frozenset({"inf", "nan"})


class _Token(NamedTuple):
    kind: str
    text: str


def add_matchers(query: str, matchers: Sequence[tuple[str, str]]) -> str:
    """``query`` with an equality matcher for each (label, value) in every selector."""
    if not matchers:
        return query
    tokens = _tokens(query)
    return query if tokens is None else "".join(_rewritten(tokens, matchers))


def matcher(name: str, value: str) -> str:
    """``name="value"`` with the value escaped for PromQL."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{escaped}"'


def _tokens(query: str) -> list[_Token] | None:
    """All tokens of the query; None where a character starts no token."""
    tokens, at = [], 0
    while at < len(query):
        match = _TOKEN.match(query, at)
        if match is None:
            return None
        tokens.append(_Token(str(match.lastgroup), match.group()))
        at = match.end()
    return tokens


def _rewritten(tokens: list[_Token], matchers: Sequence[tuple[str, str]]) -> Iterator[str]:
    at = 0
    operand = True
    """Whether an operand comes next: only an operand can be a metric, a function or a number."""
    while at < len(tokens):
        kind, text = tokens[at]
        word, following = text.lower(), _next(tokens, at + 1).text
        at += 1
        if text == "{":
            at, text = _braces(tokens, at, matchers)
            operand = False
        elif kind == "word" and (word in _MODIFIERS or (not operand and word in _GROUPING)):
            at, text = _with_labels(tokens, at)
            operand = word in _MODIFIERS
        elif word == "bool":  # takes no labels: a parenthesis after it is an operand
            pass
        elif kind == "word" and operand:
            if following.lower() in _GROUPING:  # an aggregation: `sum by (a) (...)`
                clause = next(n for n in range(at, len(tokens)) if tokens[n].kind == "word")
                at, text = _with_labels(tokens, clause + 1, since=at - 1)
            elif following not in ("(", "{") and word not in _NUMBERS:
                text += "{" + ",".join(matcher(*one) for one in matchers) + "}"
            operand = False
        elif kind == "word":
            operand = word in _BINARY
        elif kind != "space":
            operand = kind == "symbol" and text != ")"
        yield text


def _next(tokens: list[_Token], at: int) -> _Token:
    """The next token that is not a space or comment."""
    return next((one for one in tokens[at:] if one.kind != "space"), _Token("end", ""))


def _with_labels(tokens: list[_Token], at: int, since: int | None = None) -> tuple[int, str]:
    """The position after the keyword before ``at`` and its label list, if any, and their text."""
    start = at - 1 if since is None else since
    if _next(tokens, at).text == "(":
        at = next((n + 1 for n in range(at, len(tokens)) if tokens[n].text == ")"), len(tokens))
    return at, "".join(one.text for one in tokens[start:at])


def _braces(tokens: list[_Token], at: int, matchers: Sequence[tuple[str, str]]) -> tuple[int, str]:
    """The position after a selector whose brace opened before ``at``, and its text with matchers."""
    end = next((n for n in range(at, len(tokens)) if tokens[n].text == "}"), len(tokens))
    inner = tokens[at:end]
    own = {
        one.text.strip("\"'`")
        for place, one in enumerate(inner)
        if one.kind in ("word", "string") and _next(inner, place + 1).text in ("=", "!")
    }
    added = [matcher(name, value) for name, value in matchers if name not in own]
    text = "".join(one.text for one in inner)
    if added and end < len(tokens):
        solid = [one for one in inner if one.kind != "space"]
        comma = "," if solid and solid[-1].text != "," else ""
        # A comment extends to the end of its line and would include the following text.
        comment = "\n" if inner and inner[-1].text.startswith("#") else ""
        text = f"{text}{comment}{comma}{','.join(added)}"
    return end + 1, "{" + text + ("}" if end < len(tokens) else "")
