"""A tokenizer that does not load: one line that names the file and the fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from r1_runtime.architecture.families import read_description
from r1_runtime.errors import ModelLoadError
from r1_runtime.tokenizer.open import open_tokenizer

_DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("tokenizer.json", None, "model: tokenizer.json is missing"),
        ("tokenizer.json", b'{"version"', "tokenizer.json: not readable as JSON"),
        ("tokenizer.json", b"\xff\xfe", "tokenizer.json: not readable as JSON"),
        ("tokenizer.json", _DEEP, "tokenizer.json: .* nested too deeply"),
        ("tokenizer.json", b"[]", "tokenizer.json: not a JSON object"),
        ("tokenizer.json", b"{}", "tokenizer.json: not a readable tokenizer"),
        ("tokenizer_config.json", _DEEP, "tokenizer_config.json: .* nested too deeply"),
        ("tokenizer_config.json", b"[1]", "tokenizer_config.json: not a JSON object"),
        ("chat_template.jinja", b"\xff\xfe", "chat_template.jinja: not readable"),
        ("chat_template.jinja", b"{% if %}", "tokenizer.json: its chat template does not compile"),
    ],
)
def test_missing_or_damaged_tokenizer_file_is_named(
    tiny_checkpoint: Path, tmp_path: Path, file: str, content: bytes | None, words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(ModelLoadError, match=f"{words}.* Fix: "):
        open_tokenizer(folder, read_description(folder).vocab_size)
