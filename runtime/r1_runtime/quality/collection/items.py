"""Questions and passages made by rules from package descriptions and documents."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from r1_runtime.quality.collection.prose import is_prose, sentences
from r1_runtime.quality.evaluation_set import ChoiceItem, ClozeItem, TextDocument

_ANSWERS = 4
_CLOZE_CHARACTERS = (220, 520)
_LAST_WORD = re.compile(r"^(.*\S)( [a-z]{5,})[.]$", re.DOTALL)
_VARIANTS = (
    "documentation",
    "development",
    "header",
    "debug",
    "transitional",
    "library",
    "libraries",
)


def package_choices(status: str, generator: random.Random, count: int) -> list[ChoiceItem]:
    """Which short description belongs to a package's long one? The others are of the same section.

    Args:
        status: the package database.
        generator: chooses packages and orders answers.
        count: most items.
    """
    descriptions = list(_descriptions(status))
    generator.shuffle(descriptions)
    sections: dict[str, list[str]] = {}
    for _, section, short, _ in descriptions:
        sections.setdefault(section, []).append(short)
    items = []
    for package, section, short, long in descriptions:
        others = [one for one in sections[section] if not _alike(one, short)]
        if len(others) < _ANSWERS - 1 or short.lower() in long.lower():
            continue
        answers = [short, *generator.sample(others, _ANSWERS - 1)]
        generator.shuffle(answers)
        items.append(
            ChoiceItem(
                f"package {package}",
                f"Description of a software package: {long}\n\nShort description:",
                tuple(" " + answer for answer in answers),
                answers.index(short),
            )
        )
    return items[:count]


def manual_choices(
    pages: Sequence[tuple[str, str, str]], generator: random.Random, count: int
) -> list[ChoiceItem]:
    """Which title belongs to the first paragraph of a manual page?"""
    titled = [
        (name, title.partition(" - ")[2], text[:600])
        for name, title, text in pages
        if 12 <= len(title.partition(" - ")[2]) <= 80
    ]
    # One page per package: neighbours have nearly the same title.
    by_package = {name.partition(":")[0]: each for each in titled for name in (each[0],)}
    chosen = [by_package[name] for name in sorted(by_package)]
    generator.shuffle(chosen)
    titles = [title for _, title, _ in chosen]
    items = []
    for name, title, text in chosen[:count]:
        others = [one for one in titles if not _alike(one, title)]
        if len(others) < _ANSWERS - 1:
            break
        answers = [title, *generator.sample(others, _ANSWERS - 1)]
        generator.shuffle(answers)
        items.append(
            ChoiceItem(
                f"manual {name}",
                f"From a manual page: {text}\n\nTitle of the page:",
                tuple(" " + answer for answer in answers),
                answers.index(title),
            )
        )
    return items


def clozes(
    documents: Sequence[TextDocument], generator: random.Random, count: int
) -> list[ClozeItem]:
    """Passages whose last word occurs earlier in them, at most three of a document."""
    items = []
    for document in documents:
        found = list(_passages(document))
        items += generator.sample(found, min(3, len(found)))
    generator.shuffle(items)
    return items[:count]


def _passages(document: TextDocument) -> Iterator[ClozeItem]:
    least, most = _CLOZE_CHARACTERS
    for paragraph in document.text.split("\n\n"):
        parts = sentences(paragraph)
        for end in range(2, len(parts) + 1):
            passage = " ".join(parts[max(0, end - 4) : end])
            matched = _LAST_WORD.match(passage)
            if matched is None or not least <= len(passage) <= most:
                continue
            before, word = matched[1], matched[2]
            # In an earlier sentence: the last one alone must not be enough.
            earlier = " ".join(parts[max(0, end - 4) : end - 1]).lower()
            if re.search(rf"\b{word.strip()}\b", earlier):
                yield ClozeItem(document.name, before, word)


def _descriptions(status: str) -> Iterator[tuple[str, str, str, str]]:
    """(package, section, short description, first paragraph of the long one)."""
    seen = Counter[str]()
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Section|Description): (.*)$", paragraph, re.MULTILINE))
        body = re.search(r"^Description: .*\n((?: .*\n?)+)", paragraph, re.MULTILINE)
        if len(fields) < 3 or body is None:
            continue
        first = re.split(r"^ \.$", body[1], flags=re.MULTILINE)[0]
        long, short = " ".join(first.split()), fields["Description"]
        seen[long] += 1
        if seen[long] == 1 and is_prose(long) and 12 <= len(short) <= 80 and len(long) <= 700:
            yield fields["Package"], fields["Section"], short, long


def _alike(one: str, other: str) -> bool:
    """Whether two short descriptions share most of their words."""
    words = [
        {word for word in re.findall(r"[a-z]+", text.lower()) if word not in _VARIANTS}
        for text in (one, other)
    ]
    return len(words[0] & words[1]) * 2 >= min(map(len, words))
