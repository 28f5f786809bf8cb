"""Evaluation sets: manual pages, prose, questions and passages from a machine's documentation."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from r1_runtime.errors import OptionError
from r1_runtime.quality.collection.collect import collect
from r1_runtime.quality.collection.debian_texts import Machine
from r1_runtime.quality.collection.items import clozes, package_choices
from r1_runtime.quality.collection.prose import SeenText, is_prose, sentences
from r1_runtime.quality.collection.roff import man_sections
from r1_runtime.quality.evaluation_set import (
    SAMPLE,
    EvaluationSet,
    TextDocument,
    read_set,
    text_set,
)

PAGE = r""".\" comment
.TH ECHO 1
.SH NAME
echo \- display a line of text
.SH DESCRIPTION
.PP
Writes its \fIarguments\fP to standard output,
followed by a new\-line.
.nf
code is left out
.fi
.TP
.BR \-n ", " \-\-no
do not print it.
"""
SENTENCE = (
    "The gateway holds a request in its queue until a replica of the model is ready to serve it. "
)


def test_manual_page_becomes_sections_of_plain_paragraphs() -> None:
    assert man_sections(PAGE) == [
        ("NAME", ["echo - display a line of text"]),
        (
            "DESCRIPTION",
            [
                "Writes its arguments to standard output, followed by a new-line.",
                "-n, --no do not print it.",
            ],
        ),
    ]


def test_manual_page_of_another_format_is_left_out() -> None:
    assert man_sections(".Dd July\n.Dt ECHO 1\n.Sh NAME\n") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SENTENCE.strip(), True),
        (SENTENCE.strip()[:-1], False),
        ("Short text.", False),
        ("int main(void) { return f(x)[0] + 2 * y; } /* " + "x_1 " * 30 + "*/ .", False),
        ("| a | b | c |\n" * 20 + ".", False),
    ],
)
def test_prose_is_sentences_and_not_code(text: str, expected: bool) -> None:
    assert is_prose(text) is expected


def test_sentences_end_before_a_capital_letter() -> None:
    assert sentences("One is here. Two, e.g. this one, too. Three.") == [
        "One is here.",
        "Two, e.g. this one, too.",
        "Three.",
    ]


def test_repeated_texts_are_found() -> None:
    seen, words = SeenText(), [f"word{number}" for number in range(100)]
    assert seen.new(" ".join(words))
    assert not seen.new(" ".join(words[20:]))
    assert seen.new(" ".join(f"other{number}" for number in range(100)))


def test_word_of_a_passage_occurs_in_an_earlier_sentence() -> None:
    paragraph = (
        SENTENCE + SENTENCE.replace("it", "them") + "A replica that has failed leaves its queue."
    )
    [item] = clozes([TextDocument("x", paragraph)], random.Random(0), 5)
    assert item.answer == " queue"
    assert item.prompt.endswith("leaves its")
    assert "queue" in item.prompt


def _status(count: int) -> str:
    kinds = ("archives", "pictures", "sounds", "letters", "tables", "forms", "maps", "graphs")
    verbs = ("reads", "prints", "sorts", "converts", "checks", "signs", "sends", "joins")
    return "\n".join(
        f"Package: tool-{number}\nSection: utils\n"
        f"Description: {verbs[number % 8]} {kinds[number // 8 % 8]} quickly\n"
        f" This program number {number} is made for everyone who has to work with {kinds[number // 8 % 8]}\n"
        f" on a small machine, and it {verbs[number % 8]} them in an orderly manner.\n"
        for number in range(count)
    )


def test_questions_have_one_right_answer_among_four() -> None:
    items = package_choices(_status(40), random.Random(3), 20)
    assert len(items) == 20
    for item in items:
        assert len(set(item.answers)) == 4
        right = item.answers[item.right].split()
        assert right[0] in item.prompt
        assert all(answer.startswith(" ") for answer in item.answers)


def _machine(root: Path, files: int) -> Machine:
    """A machine with one package of manual pages."""
    info, pages = root / "var/lib/dpkg/info", root / "usr/share/man/man7"
    doc = root / "usr/share/doc/tool"
    for folder in (info, pages, doc):
        folder.mkdir(parents=True)
    (doc / "copyright").write_text("License: GPL-2+\n")
    listed = []
    for number in range(files):
        words = " ".join(f"{word}{number}" for word in SENTENCE.split())
        source = PAGE + "".join(
            f".PP\n{SENTENCE}{words.capitalize()}{part}.\n" for part in range(80)
        )
        plain = source.translate({ord(str(digit)): chr(ord("a") + digit) for digit in range(10)})
        path = pages / f"tool{number}.7.gz"
        path.write_bytes(gzip.compress(plain.replace("and it", "and").encode()))
        listed.append(f"/usr/share/man/man7/{path.name}")
    (info / "tool.list").write_text("\n".join(listed))
    (root / "var/lib/dpkg/status").write_text(_status(40))
    return Machine(root)


def test_set_of_a_machine_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    machine = _machine(tmp_path, 3)
    evaluated, calibrated = collect(1, machine)
    again, _ = collect(1, machine)
    other, _ = collect(2, machine)
    assert evaluated == again
    assert evaluated.identity() != other.identity()
    assert not {each.name for each in evaluated.documents} & {
        each.name for each in calibrated.documents
    }
    path = tmp_path / "set.json"
    evaluated.write(path)
    assert read_set(str(path)) == evaluated


def test_package_without_a_free_licence_is_not_read(tmp_path: Path) -> None:
    machine = _machine(tmp_path, 2)
    (tmp_path / "usr/share/doc/tool/copyright").write_text("All rights reserved.\n")
    assert machine.packages() == {}


def test_machine_without_documentation_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pydoc_data.topics.topics", {})
    with pytest.raises(OptionError, match="has 0 documents .* Fix: install documentation"):
        collect(1, Machine(tmp_path))


def test_missing_or_broken_set_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="no such file. Fix: python -m r1_runtime.quality collect"
    ):
        read_set(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text('{"name": "x"}')
    with pytest.raises(OptionError, match="not an evaluation set"):
        read_set(str(tmp_path / "bad.json"))


def test_sample_set_of_the_package_has_texts_and_items() -> None:
    sample = read_set(SAMPLE)
    assert len(sample.documents) >= 8
    assert sample.choices
    assert sample.clozes


def test_own_text_is_several_documents(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\n\n".join(SENTENCE * 10 for _ in range(30)))
    own = text_set(file)
    assert isinstance(own, EvaluationSet)
    assert 8 <= len(own.documents) <= 14
    assert sum(len(each.text) for each in own.documents) > 0.8 * len(file.read_text())


def test_folder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="0 characters of text"):
        text_set(tmp_path)
