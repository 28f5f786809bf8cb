"""Documents from the documentation of a Debian machine's packages and of Python.

Only files of packages with a free licence in `/usr/share/doc/PACKAGE/copyright` are read. The texts stay
on the machine: a set is stored outside of the repository.
"""

from __future__ import annotations

import gzip
import pydoc_data.topics
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from r1_runtime.quality.collection.prose import SeenText, is_prose
from r1_runtime.quality.collection.roff import man_sections
from r1_runtime.quality.evaluation_set import TextDocument

_FREE = re.compile(
    r"GPL|GFDL|BSD|Expat|MIT|Apache|Artistic|Zlib|PSF|ISC|MPL|PostgreSQL|public[- ]domain|permission",
    re.IGNORECASE,
)
_MANUALS = re.compile(r"usr/share/man/man[1-8]/.*\.gz")
_INFO = re.compile(r"usr/share/info/.*\.info(-\d+)?\.gz")
_PLAIN = re.compile(r"usr/share/doc/.*(\.txt|\.md|\.rst|README[^/]*|FAQ[^/]*)(\.gz)?")
_CHANGES = re.compile(
    r"changelog|changes|news|relnotes|release|copyright|todo|history", re.IGNORECASE
)
_KINDS = {"manual": _MANUALS, "info": _INFO, "text": _PLAIN}
_PAGES = 5  # of a package that are tried for a question
_LEAST, _MOST = 9_000, 48_000  # characters of a document


@dataclass(frozen=True, slots=True)
class Machine:
    """Folders that are read; another root in tests."""

    root: Path = Path("/")

    def packages(self) -> dict[str, str]:
        """Package of each installed file, without the leading slash."""
        owners: dict[str, str] = {}
        for listing in sorted((self.root / "var/lib/dpkg/info").glob("*.list")):
            package = listing.stem.partition(":")[0]
            if self._is_free(package):
                for line in listing.read_text(errors="replace").splitlines():
                    owners[line.lstrip("/")] = package
        return owners

    def status(self) -> str:
        """The package database, empty where there is none."""
        try:
            return (self.root / "var/lib/dpkg/status").read_text(errors="replace")
        except OSError:
            return ""

    def read(self, file: str) -> str:
        """Text of a file, also of a compressed one; empty where it cannot be read."""
        path = self.root / file
        try:
            data = path.read_bytes()
            return (gzip.decompress(data) if path.suffix == ".gz" else data).decode(
                errors="replace"
            )
        except (OSError, EOFError, gzip.BadGzipFile):
            return ""

    def _is_free(self, package: str) -> bool:
        path = self.root / "usr/share/doc" / package / "copyright"
        try:
            return _FREE.search(path.read_text(errors="replace")) is not None
        except OSError:
            return False


def documents(
    machine: Machine, generator: random.Random, most: int
) -> dict[str, list[TextDocument]]:
    """Documents of at least 9,000 characters of prose, by kind of source.

    Args:
        machine: the folders that are read.
        generator: orders the files of each kind.
        most: documents of a kind.
    """
    files: dict[str, list[tuple[str, str]]] = {kind: [] for kind in _KINDS}
    for file, package in sorted(machine.packages().items()):
        for kind, pattern in _KINDS.items():
            if pattern.fullmatch(file) and not (kind == "text" and _CHANGES.search(file)):
                files[kind].append((file, package))
    seen = SeenText()
    found = {"topics": [each for each in _topics() if seen.new(each.text)]}
    generator.shuffle(found["topics"])
    for kind, owned in files.items():
        generator.shuffle(owned)
        made = (_document(machine, kind, *each) for each in owned)
        new = (each for each in made if each is not None and seen.new(each.text))
        found[kind] = list(islice(new, most))
    return found


def manual_pages(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """(package and name, title line, first paragraph of the description) of a page of each package."""
    pages: dict[str, list[str]] = {}
    for file, package in sorted(machine.packages().items()):
        if _MANUALS.fullmatch(file):
            pages.setdefault(package, []).append(file)
    for package, files in pages.items():
        for file in files[:_PAGES]:
            sections = dict(man_sections(machine.read(file)))
            titles, texts = sections.get("NAME", []), sections.get("DESCRIPTION", [])
            first = next((text for text in texts if is_prose(text)), "")
            if titles and first:
                yield f"{package}:{Path(file).name}", titles[0], first
                break


def _topics() -> Iterator[TextDocument]:
    """Python's own help texts, several in one document."""
    parts: list[str] = []
    for number, (name, text) in enumerate(sorted(pydoc_data.topics.topics.items())):
        parts += _paragraphs(text)
        joined = "\n\n".join(parts)
        if len(joined) >= _LEAST:
            yield TextDocument(f"pydoc topics to {number} {name}", joined[:_MOST], "python")
            parts = []


def _document(machine: Machine, kind: str, file: str, package: str) -> TextDocument | None:
    """The prose of a file; None where there is too little."""
    source = machine.read(file)
    if len(source) < _LEAST:
        return None
    if kind == "manual":
        pages = man_sections(source)
        paragraphs = [text for _, texts in pages for text in texts if is_prose(text)]
    else:
        paragraphs = _paragraphs(source)
    text = "\n\n".join(paragraphs)[:_MOST]
    return TextDocument(file, text, package) if len(text) >= _LEAST else None


def _paragraphs(text: str) -> list[str]:
    """Paragraphs of prose, each on one line."""
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n|\x1f", text))
    return [block for block in blocks if is_prose(block)]
