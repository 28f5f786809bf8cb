"""Writes the runtime's sample set of evaluation texts from this repository's own documentation.

`.venv/bin/python tools/sample_texts.py`: after large changes of the documentation, not after each one:
figures on two versions of the set are not comparable.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from r1_runtime.quality.collection.items import clozes
from r1_runtime.quality.collection.prose import is_prose
from r1_runtime.quality.evaluation_set import ChoiceItem, EvaluationSet, TextDocument

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "runtime/r1_runtime/quality/sample_set.json"
PAGES = (
    *(
        "operations",
        "scaling",
        "forecasting",
        "gateway",
        "runtime",
        "runbooks",
        "cluster",
        "install",
    ),
    *("published-forecasts", "coming-from", "verification", "demo-model"),
)
LEAST, MOST = 2500, 4000  # characters of a document
CHOICES, CLOZES = 24, 32


def paragraphs(page: Path) -> list[str]:
    """Prose of a Markdown page, as plain text."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("*", "")
    blocks = (" ".join(block.split()) for block in text.split("\n\n"))
    return [block for block in blocks if is_prose(block)]


def documents() -> list[TextDocument]:
    """Pages, and decision records several in one document."""
    pages = [[ROOT / f"docs/{name}.md"] for name in PAGES]
    records = sorted((ROOT / "docs/decisions").glob("0*.md"))
    pages += [records[at : at + 6] for at in range(0, len(records), 6)]
    made = []
    for files in pages:
        text = "\n\n".join(part for file in files for part in paragraphs(file))
        if len(text) >= LEAST:
            name = str(files[0].relative_to(ROOT))
            made.append(TextDocument(name, text[:MOST], "this repository"))
    return made


def choices(generator: random.Random) -> list[ChoiceItem]:
    """Which term has this definition? From the glossary."""
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]{40,}) \| [^|]* \|$",
        (ROOT / "docs/glossary.md").read_text(),
        re.MULTILINE,
    )
    terms = [term.strip(" *`") for term, _ in rows]
    items = []
    for term, meaning in zip(terms, (meaning.strip() for _, meaning in rows), strict=True):
        answers = [term, *generator.sample([one for one in terms if one != term], 3)]
        generator.shuffle(answers)
        items.append(
            ChoiceItem(
                term,
                f"Definition: {meaning}\nTerm:",
                tuple(" " + answer for answer in answers),
                answers.index(term),
            )
        )
    generator.shuffle(items)
    return items[:CHOICES]


def main() -> None:
    generator = random.Random(1)  # noqa: S311 - repeatable choices, no secret
    made = documents()
    written = EvaluationSet(
        "sample", tuple(made), tuple(choices(generator)), tuple(clozes(made, generator, CLOZES))
    )
    written.write(TARGET)
    print(
        f"{TARGET}: {len(written.documents)} documents, {len(written.choices)} questions, {len(written.clozes)} passages"
    )


if __name__ == "__main__":
    main()
