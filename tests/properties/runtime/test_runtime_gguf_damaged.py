"""Whatever happens to a GGUF file's bytes, it opens or is refused in one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.errors import ModelLoadError
from tiny_gguf import DEEPSEEK_V3, write_tiny_gguf


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_tiny_gguf(path, DEEPSEEK_V3)
    return path.read_bytes()


def _opens_or_is_refused(path: Path) -> None:
    try:
        checkpoint = open_checkpoint(path)
    except ModelLoadError as error:
        refusal, checkpoint = str(error), None
    else:
        refusal = ""
    if checkpoint is None:
        assert "\n" not in refusal
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # changed weights may overflow
        for name in ("embed_tokens.weight", "layers.1.self_attn.kv_b_proj.weight"):
            decode(checkpoint.tensor(name))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_gguf_file_is_refused(
    original: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
    with pytest.raises(ModelLoadError):
        open_checkpoint(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_header_bytes_of_a_gguf_file_never_crash_the_reader(
    original: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, 12000))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.gguf"
    path.write_bytes(changed)
    _opens_or_is_refused(path)
