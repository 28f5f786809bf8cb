"""A tokenizer that does not load: one line that names the file and the fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from r1_runtime.architecture.families import read_description
from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.open import open_tokenizer


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "tokenizer.json is missing"), (b'{"version"', "not a readable tokenizer")],
)
def test_missing_or_truncated_tokenizer_is_named(
    tiny_checkpoint: Path, tmp_path: Path, content: bytes | None, words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelLoadError, match=words):
        open_tokenizer(folder, read_description(folder).vocab_size)
