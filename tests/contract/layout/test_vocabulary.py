"""Replaced words stay out of names and of text that people read (docs/glossary.md).

`vocabulary_allowed.json` counts what is left per file. It may only shrink:
`python tests/support/vocabulary.py --shrink` after a file has improved.
"""

from __future__ import annotations

import json

import pytest

import vocabulary
from vocabulary import classes, findings, replaced_in

SHARED_CLASS_NAMES: dict[str, str] = {}
"""Public classes that two packages define on purpose, with the reason."""


@pytest.mark.parametrize("kind", ["strings", "chart", "modules", "test names"])
def test_replaced_words_only_become_fewer(kind: str) -> None:
    allowed = json.loads(vocabulary.ALLOWED.read_text())[kind]
    more = {
        file: those for file, those in findings()[kind].items() if len(those) > allowed.get(file, 0)
    }
    assert not more, f"see docs/glossary.md for the terms that replace these: {more}"


def test_allow_list_names_existing_files_only() -> None:
    listed = {
        file for files in json.loads(vocabulary.ALLOWED.read_text()).values() for file in files
    }
    gone = sorted(file for file in listed if not (vocabulary.ROOT / file).is_file())
    assert not gone, "run: python tests/support/vocabulary.py --shrink"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5 kept: the forecast vouches", ["kept", "vouches"]),
        ("NoRoom", ["NoRoom"]),
        ("r1_operator_leading", ["r1_operator_leading"]),
        ("Too few seats are held back.", ["held back"]),
        ("Keeping 5 replicas: the peak of the last 15 min needed 5.", []),
        ("threshold, withheld, outdoors, r1_operator_is_leader", []),
    ],
)
def test_scanner_finds_whole_words(text: str, words: list[str]) -> None:
    assert replaced_in(text) == words


def test_class_name_has_one_meaning() -> None:
    shared = {
        name: dict(packages)
        for name, packages in classes().items()
        if len(packages) > 1 and name not in SHARED_CLASS_NAMES
    }
    assert not shared, "rename one, or give the reason in SHARED_CLASS_NAMES"
