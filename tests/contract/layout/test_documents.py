"""Links and paths in the documentation lead to files that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vocabulary import PRODUCT, ROOT, name_of, tracked

PAGES = [
    path
    for path in tracked("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/*.md")
    if "docs/studies" not in name_of(path)  # notebooks use the paths of their time
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([\w./-]+)`")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
ROOTS = ("", "tests/", "docs/", *(f"{root}/" for root in PRODUCT))
FOLDERS = {
    path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
} | {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
BUILT = ("out/",)


def anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    plain = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page, code blocks left out."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return {anchor(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text()):
        target, _, fragment = link.partition("#")
        if "://" in link:
            continue
        file = (page.parent / target) if target else page
        if not file.exists() or (
            fragment and file.suffix == ".md" and fragment not in anchors(file)
        ):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quoted_paths_exist(page: Path) -> None:
    """A quoted path is one that begins with a folder of the repository and names a file or folder."""
    gone = []
    for path in QUOTED.findall(page.read_text()):
        first, slash, _ = path.partition("/")
        inside = first in FOLDERS or (first.startswith("r1_") and path.endswith((".py", "/")))
        if not slash or not inside or path.startswith(BUILT):
            continue
        if not any((ROOT / root / path).exists() for root in ROOTS):
            gone.append(path)
    assert not gone


def test_lines_of_the_architecture_are_short() -> None:
    long = [
        (number, len(line))
        for number, line in enumerate((ROOT / "ARCHITECTURE.md").read_text().splitlines(), 1)
        if len(line) > 300
    ]
    assert not long


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_records_have_an_index_and_half_a_page() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    for record in sorted((ROOT / "docs/decisions").glob("0*.md")):
        assert f"({record.name})" in index, record.name
        if not record.name.startswith("0005"):  # the table of dependencies grows with them
            assert len(record.read_text().split()) <= 420, record.name


def test_readme_shows_the_present_output_of_explain() -> None:
    """After a change of messages: `.venv/bin/python tools/doc_examples.py write`."""
    command = [sys.executable, str(ROOT / "tools/doc_examples.py"), "explain"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    clock = re.compile(r"\d\d:\d\d:\d\d")  # shown in the time zone of the machine
    assert clock.sub("", printed) in clock.sub("", (ROOT / "README.md").read_text())


def test_documented_make_targets_exist() -> None:
    """A target is a rule of the Makefile; `bench-NAME` runs `r1_bench.NAME`, a module or a package."""
    makefile = (ROOT / "Makefile").read_text()
    rules = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = {
        (name_of(page), target)
        for page in PAGES
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", " ".join(CODE.findall(page.read_text())))
    }
    listed = re.search(r"^BENCHES := (.*)$", makefile, re.MULTILINE)
    assert listed is not None
    benches = re.findall(r"(?<![$(\w])[a-z][a-z-]+", listed[1].replace("$(if $(R1_TRACES),", " "))
    named |= {("Makefile", f"bench-{name}") for name in benches}
    gone = [f"{page}: make {target}" for page, target in named if not _is_target(target, rules)]
    assert not sorted(gone)


def _is_target(target: str, rules: set[str]) -> bool:
    before, _, module = target.partition("bench-")
    if before or not module:
        return target in rules or target == "bench-"  # `make bench-NAME` in prose
    name = module.replace("-", "_")
    files = (f"{name}.py", f"{name}/__main__.py")
    return any((ROOT / "benchmarks/r1_bench" / file).is_file() for file in files)
