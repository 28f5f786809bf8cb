"""Licensed text that every Python installation has: the docstrings of its standard library.

Their licence is the Python Software Foundation License. The manual's topics (`pydoc_data.topics`, the
same licence) are a second text, with which no conversion is fitted.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Protocol

import torch
from torch import Tensor

_SHORTEST = 200  # characters of a docstring that is used


class Encoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def encode(self, text: str) -> list[int]: ...


def fitting_texts(paths: Sequence[Path] = ()) -> Iterator[str]:
    """Texts to fit with: the files at `paths`, or the docstrings of the standard library."""
    for path in paths:
        yield path.read_text(encoding="utf-8", errors="replace")
    if not paths:
        yield from _docstrings(Path(sysconfig.get_path("stdlib")))


def held_out_texts() -> Iterator[str]:
    """Texts to measure with: the topics of the Python manual."""
    yield from (topics[name] for name in sorted(topics))


def token_windows(texts: Iterator[str], tokenizer: Encoder, count: int, length: int) -> Tensor:
    """Adjacent windows of tokens, int64 [windows, length].

    Args:
        texts: joined by blank lines; read as far as needed.
        tokenizer: of the model.
        count: tokens that are wanted, rounded down to whole windows.
        length: tokens of a window.

    Raises:
        ValueError: the texts have fewer tokens than one window.
    """
    tokens: list[int] = []
    for text in texts:
        tokens += tokenizer.encode(text + "\n\n")
        if len(tokens) >= count:
            break
    windows = min(count, len(tokens)) // length
    if not windows:
        raise ValueError(f"the text has {len(tokens)} tokens; one window needs {length}")
    return torch.tensor(tokens[: windows * length]).view(windows, length)


def _docstrings(folder: Path) -> Iterator[str]:
    """All long docstrings of the modules and packages in a folder, in the order of their paths."""
    for file in sorted(folder.glob("*.py")) + sorted(folder.glob("*/*.py")):
        if "packages" in str(file.relative_to(folder)) or "test" in file.parent.name:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError, OSError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= _SHORTEST:
                    yield text
