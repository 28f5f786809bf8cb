"""Prose of manual pages in the format of `man`, without the program."""

from __future__ import annotations

import re

_BREAKS = frozenset({"PP", "P", "LP", "TP", "IP", "HP", "RS", "RE", "br", "sp", "TQ"})
_FONTS = frozenset({"B", "I", "BR", "IR", "RB", "BI", "IB", "RI", "SM", "SB"})
_CODE = {"nf": "fi", "EX": "EE", "TS": "TE", "de": ".", "ig": "."}
_ESCAPES = (
    (re.compile(r"\\f(\[[^\]]*\]|\(..|.)"), ""),
    (re.compile(r"\\s[+-]?\d"), ""),
    (re.compile(r"\\\((aq|cq|oq)"), "'"),
    (re.compile(r"\\\((lq|rq|dq)"), '"'),
    (re.compile(r"\\\((em|en|hy)"), "-"),
    (re.compile(r"\\\((co|bu|..)|\\\[[^\]]*\]|\\\*(\(..|.)"), ""),
    (re.compile(r"\\-"), "-"),
    (re.compile(r"\\[ ~]"), " "),
    (re.compile(r"\\e"), r"\\"),
    (re.compile(r"\\[&/,:%|^cZ]"), ""),
)
_QUOTED = re.compile(r'"([^"]*)"|(\S+)')


def man_sections(source: str) -> list[tuple[str, list[str]]]:
    """(heading, paragraphs) of a page; empty for a page in another format."""
    sections: list[tuple[str, list[str]]] = []
    words: list[str] = []
    closing = ""

    def end_paragraph() -> None:
        if words and sections:
            sections[-1][1].append(" ".join(" ".join(words).split()))
        words.clear()

    for line in source.splitlines():
        if line.startswith((".Dd", ".Dt")):
            return []
        macro = line[1:].split(maxsplit=1) if line[:1] in (".", "'") else []
        name = macro[0] if macro else ""
        rest = macro[1] if len(macro) > 1 else ""
        if closing:
            if name == closing or (closing == "." and line.startswith("..")):
                closing = ""
            continue
        if name in _CODE:
            end_paragraph()
            closing = _CODE[name]
        elif name in ("SH", "SS"):
            end_paragraph()
            sections.append((_plain(rest.strip('" ')), []))
        elif name in _BREAKS or not line.strip():
            end_paragraph()
        elif name in _FONTS:
            joint = " " if len(name) == 1 or name in ("SM", "SB") else ""
            words.append(joint.join(_plain(a or b) for a, b in _QUOTED.findall(rest)))
        elif not macro and not line.startswith((".", "'")):
            words.append(_plain(line))
    end_paragraph()
    return sections


def _plain(text: str) -> str:
    for pattern, replacement in _ESCAPES:
        text = pattern.sub(replacement, text)
    return text
