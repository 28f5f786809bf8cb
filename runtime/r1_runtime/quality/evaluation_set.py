"""Texts and items of an evaluation, stored as one JSON file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from r1_runtime.errors import OptionError

SAMPLE = "sample"
"""Name of the small set in the package, which the project wrote: for tests and first tries."""
COLLECT = "python -m r1_runtime.quality collect"


@dataclass(frozen=True, slots=True)
class TextDocument:
    """A text whose perplexity is measured; also the filler of retrieval.

    Attributes:
        name: file that it comes from.
        text: paragraphs of prose.
        package: Debian package of the file, for its licence; empty for a user's own text.
    """

    name: str
    text: str
    package: str = ""


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with several answers, one of them right.

    Attributes:
        name: what it is about.
        prompt: text in front of the answer.
        answers: possible continuations, with their leading blank.
        right: index of the right one.
    """

    name: str
    prompt: str
    answers: tuple[str, ...]
    right: int


@dataclass(frozen=True, slots=True)
class ClozeItem:
    """A passage whose last word is asked for; the word occurs earlier in the passage.

    Attributes:
        name: document that it comes from.
        prompt: the passage without its last word.
        answer: the word, with its leading blank.
    """

    name: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What a configuration is evaluated on.

    Attributes:
        name: for reports.
        documents: texts, the longest first.
        choices: questions with answers.
        clozes: passages.
    """

    name: str
    documents: tuple[TextDocument, ...]
    choices: tuple[ChoiceItem, ...] = ()
    clozes: tuple[ClozeItem, ...] = ()

    def identity(self) -> str:
        """Digest of the content: two evaluations of one identity are comparable."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """Store it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_set(path: str) -> EvaluationSet:
    """A stored set, or `sample`.

    Raises:
        OptionError: the file is missing or is no evaluation set.
    """
    file = Path(path)
    if path == SAMPLE:
        file = Path(str(resources.files("r1_runtime.quality") / "sample_set.json"))
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return _set(fields)
    except FileNotFoundError as error:
        raise OptionError(
            f"--texts {path}: no such file. Fix: {COLLECT} --out {path}, or --texts {SAMPLE}."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"--texts {path}: not an evaluation set ({error!r}). Fix: {COLLECT} --out {path}."
        ) from error


def text_set(path: Path) -> EvaluationSet:
    """A user's own text: a file, or the `.txt` and `.md` files of a folder. Paragraphs stay as they are.

    Raises:
        OptionError: there is no text.
    """
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in (".txt", ".md"))
    try:
        documents = [TextDocument(str(file), file.read_text(encoding="utf-8")) for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--text {path}: {error}. Fix: a UTF-8 text file or a folder.") from error
    documents = [each for each in documents if each.text.strip()]
    if not documents:
        raise OptionError(
            f"--text {path}: 0 characters of text. Fix: a text file, or a folder with .txt or .md files."
        )
    if len(documents) == 1:
        documents = _parts(documents[0])
    return EvaluationSet(path.name, tuple(sorted(documents, key=lambda each: -len(each.text))))


def _parts(document: TextDocument, count: int = 12) -> list[TextDocument]:
    """One long text as several documents, because intervals need several."""
    paragraphs = document.text.split("\n\n")
    most = max(2000, len(document.text) // count)
    parts, current, size = [], [], 0
    for paragraph in paragraphs:
        current.append(paragraph)
        size += len(paragraph)
        if size >= most:
            parts.append("\n\n".join(current))
            current, size = [], 0
    if current and (size > most // 2 or not parts):
        parts.append("\n\n".join(current))
    return [TextDocument(f"{document.name}:{number}", text) for number, text in enumerate(parts, 1)]


def _set(fields: dict[str, Any]) -> EvaluationSet:
    return EvaluationSet(
        str(fields["name"]),
        tuple(TextDocument(**each) for each in fields["documents"]),
        tuple(
            ChoiceItem(each["name"], each["prompt"], tuple(each["answers"]), int(each["right"]))
            for each in fields["choices"]
        ),
        tuple(ClozeItem(**each) for each in fields["clozes"]),
    )
