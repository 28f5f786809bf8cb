"""Hooks of mkdocs: pages from outside `docs/`, and links that lead to them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "overview.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "helm/r1-operator/README.md": "chart.md",
}
"""Path in the repository -> name in the site."""
_LINK = re.compile(r"(\]\()([^)#\s]+)([^)]*\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages from outside `docs/`, and mermaid.js where `tools/docs` has found it."""
    mermaid = Path(os.environ.get("R1_DOCS_MERMAID", ""))
    if mermaid.is_file():
        name = "assets/mermaid.min.js"
        files.append(File.generated(config, name, abs_src_path=str(mermaid)))
        config.extra_javascript.append(name)
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between the two places into links of the site."""
    name = page.file.src_uri
    source = {site: path for path, site in OUTSIDE.items()}.get(name, f"docs/{name}")

    def moved(match: re.Match[str]) -> str:
        target = match.group(2)
        if "://" in target:
            return match.group(0)
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        inside = OUTSIDE.get(path, path.removeprefix("docs/"))
        link = os.path.relpath(inside, os.path.dirname(name) or ".")
        return f"{match.group(1)}{link}{match.group(3)}"

    return _LINK.sub(moved, markdown)
