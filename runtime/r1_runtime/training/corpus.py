"""Corpus of English prose from three Debian documentation packages with permissive licences.

| package             | licence                            |
|---------------------|------------------------------------|
| python3.11-doc      | Python Software Foundation License |
| postgresql-doc-15   | PostgreSQL Licence                 |
| sqlite3-doc         | public domain                      |

The packages' HTML is divided into sections: a heading, or a term of a definition list, with the
paragraphs below it. Code, tables, version notes and navigation are removed. One section is one line
of JSON. Held-out data are whole pages, so that training data contain no adjacent sentence.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path

HELD_OUT_ONE_IN = 50


@dataclass(frozen=True, slots=True)
class Source:
    """A package and the folder of its HTML."""

    package: str
    name: str
    licence: str
    folder: str
    skip: tuple[str, ...] = ()


SOURCES = (
    Source(
        "python3.11-doc",
        "Python",
        "PSF-2.0",
        "usr/share/doc/python3.11/html",
        ("genindex", "whatsnew/changelog", "contents", "py-modindex", "search", "license"),
    ),
    Source(
        "postgresql-doc-15",
        "PostgreSQL",
        "PostgreSQL",
        "usr/share/doc/postgresql-doc-15/html",
        ("release", "bookindex", "biblio", "legalnotice"),
    ),
    Source(
        "sqlite3-doc",
        "SQLite",
        "public domain",
        "usr/share/doc/sqlite3",
        (
            "releaselog",
            "changes",
            "doc_",
            "syntax/",
            "requirements",
            "consortium",
            "sitemap",
            "cves",
        ),
    ),
)


# Headings without a meaning of their own: the page's title replaces them.
_GENERIC = frozenset(
    {"Note", "Notes", "Parameters", "Description", "Tip", "Caution", "Warning", "Introduction"}
    | {"Overview", "Examples", "Example", "Options", "Functions", "Arguments", "Usage", "Author"}
    | {"Important", "Outputs", "Return Value", "Diagnostics", "Environment", "Compatibility"}
)


@dataclass(slots=True)
class Section:
    """A title and its paragraphs, from one page of one source."""

    source: str
    page: str
    title: str
    held_out: bool
    paragraphs: list[str] = field(default_factory=list)


_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5"})
_SILENT = frozenset({"pre", "script", "style", "table", "nav", "svg", "head", "button"})
_BLOCKS = frozenset({"p", "div", "dd", "dt", "dl", "li", "ul", "ol", "section", "blockquote"})


class SectionParser(HTMLParser):
    """Collects (title, paragraphs) from one HTML page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.sections: list[tuple[str, list[str]]] = []
        self._silent = 0
        self._text: list[str] | None = None
        self._is_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag in _HEADINGS:
            self._flush()
            self._text, self._is_title = [], True
        elif tag == "dt":
            self._flush()
            name = dict(attrs).get("id")
            if name and "." in name and not name.startswith(("cmdoption", "index", "term")):
                self._open(name)
        elif tag == "p":
            self._flush()
            self._text, self._is_title = [], False
        elif tag in _BLOCKS:
            self._flush()

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._flush()

    def handle_data(self, data: str) -> None:
        if self._text is not None and not self._silent:
            self._text.append(data)

    def close(self) -> None:
        super().close()
        self._flush()

    def _open(self, title: str) -> None:
        self.sections.append((title, []))

    def _flush(self) -> None:
        if self._text is None:
            return
        text = " ".join("".join(self._text).split())
        if self._is_title:
            title = clean_title(text)
            if title:
                self._open(title)
        elif self.sections and is_prose(text):
            self.sections[-1][1].append(plain(text))
        self._text = None


def clean_title(text: str) -> str:
    """A heading without its section number, anchor mark and dashes."""
    text = re.sub(r"^(Chapter |Appendix )?[A-Z]?[\d.]*\d\.?\s+|^[A-Z]\.\d[\d.]*\s+|[¶#]", "", text)
    text = re.sub(r"\s*—\s*", ": ", plain(text)).strip(" .:")
    return text if 2 < len(text) < 80 else ""


_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", "…": "..."})


def plain(text: str) -> str:
    """Typographic quotes and spaces as ASCII."""
    return " ".join(text.translate(_TYPOGRAPHY).split())


def is_prose(text: str) -> bool:
    """Whether the text is whole sentences of mostly letters, and no version note or source link."""
    if not 50 <= len(text) <= 1400 or text[-1] not in ".:?!)" or not text[0].isupper():
        return False
    if re.match(
        r"(Source code|New in version|Changed in version|Deprecated|See also|Note that th"
        r"is page|Copyright|Availability|This page)",
        text,
    ):
        return False
    letters = sum(c.isalpha() or c == " " for c in text)
    return letters / len(text) > 0.90


def read_sections(root: Path, source: Source) -> Iterator[Section]:
    """Sections of all pages of one unpacked package, in the order of their paths."""
    folder = root / source.folder
    for path in sorted(folder.rglob("*.html")):
        page = str(path.relative_to(folder))
        if page.startswith(source.skip) or not path.is_file():
            continue
        parser = SectionParser()
        parser.feed(path.read_text(encoding="utf-8", errors="replace"))
        parser.close()
        held_out = zlib.crc32(f"{source.name}/{page}".encode()) % HELD_OUT_ONE_IN == 0
        page_title = next(iter(parser.sections), ("", []))[0]
        for title, paragraphs in parser.sections:
            if paragraphs:
                named = page_title if title in _GENERIC else title.removeprefix("c.")
                yield Section(source.name, page, named, held_out, paragraphs)


def unpack_packages(root: Path) -> None:
    """Download the packages with apt and unpack them under `root` (nothing is installed)."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is missing: run this on Debian 12 or pass --root.")
    packages = [source.package for source in SOURCES]
    subprocess.run(["apt-get", "download", "-q", *packages], cwd=root, check=True)  # noqa: S603, S607
    for archive in sorted(root.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive.name, "."], cwd=root, check=True)  # noqa: S603, S607


def write_corpus(root: Path, out: Path) -> None:
    """Write `out/sections.jsonl` from the packages unpacked under `root`."""
    out.mkdir(parents=True, exist_ok=True)
    written: set[str] = set()
    counts: dict[str, int] = {}
    with (out / "sections.jsonl").open("w", encoding="utf-8") as file:
        for source in SOURCES:
            for section in read_sections(root, source):
                fresh = [text for text in section.paragraphs if text not in written]
                written.update(fresh)
                if fresh:
                    section.paragraphs = fresh
                    counts[source.name] = counts.get(source.name, 0) + sum(map(len, fresh))
                    file.write(json.dumps(asdict(section), ensure_ascii=False) + "\n")
    sys.stdout.write(f"characters of prose: {counts}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for sections.jsonl")
    parser.add_argument("--root", type=Path, help="packages already unpacked here: no download")
    options = parser.parse_args()
    if options.root:
        write_corpus(options.root, options.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        unpack_packages(Path(folder))
        write_corpus(Path(folder), options.out)


if __name__ == "__main__":
    main()
