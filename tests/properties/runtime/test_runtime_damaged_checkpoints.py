"""Whatever a config.json or a safetensors file has, it opens or is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1_runtime.architecture.families import describe
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.errors import ModelLoadError
from r1_runtime.training.random_model import TINY_CONFIG, write_random_model

YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "mscale": 1.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
DENSE = TINY_CONFIG | {"architectures": None, "num_key_value_heads": 2}
CONFIGS: tuple[dict[str, Any], ...] = (
    TINY_CONFIG | {"rope_scaling": YARN},
    TINY_CONFIG
    | {"model_type": "deepseek_v2", "architectures": None, "scoring_func": "softmax"}
    | {"topk_method": "group_limited_greedy", "norm_topk_prob": False},
    DENSE | {"model_type": "llama", "rope_scaling": LLAMA3},
    DENSE | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 4096},
    DENSE | {"model_type": "qwen3", "head_dim": 16, "layer_types": ["full_attention"]},
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=4)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_random_model(folder)
    return folder


@settings(deadline=None)
@given(data=st.data())
def test_configuration_with_any_value_in_one_field_is_described_or_refused(
    data: st.DataObject,
) -> None:
    raw = dict(data.draw(st.sampled_from(CONFIGS)))
    name = data.draw(st.sampled_from([*raw, "rope_parameters", "quantization_config", "head_dim"]))
    if name == "rope_scaling" and isinstance(raw[name], dict):
        part = data.draw(st.sampled_from(list(raw[name])))
        raw[name] = raw[name] | {part: data.draw(VALUES)}
    else:
        raw[name] = data.draw(VALUES)
    try:
        describe(raw)
    except ModelLoadError as error:
        refusal = str(error)
    else:
        return
    assert "Fix: " in refusal
    assert "\n" not in refusal


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_safetensors_file_with_a_changed_header_opens_or_is_refused(
    original: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = (original / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = data.draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
    part = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "whole"]))
    if part == "whole":
        header[name] = data.draw(VALUES)
    else:
        header[name][part] = data.draw(VALUES)
    text = json.dumps(header).encode()
    _opens_or_is_refused(
        original, tmp_path, len(text).to_bytes(8, "little") + text + content[8 + length :]
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_safetensors_file_with_changed_bytes_opens_or_is_refused(
    original: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray((original / "model.safetensors").read_bytes())
    length = int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, length + 8))] = data.draw(st.integers(0, 255))
    _opens_or_is_refused(original, tmp_path, bytes(content))


def _opens_or_is_refused(original: Path, folder: Path, content: bytes) -> None:
    (folder / "config.json").write_text((original / "config.json").read_text())
    (folder / "model.safetensors").write_bytes(content)
    try:
        checkpoint = open_checkpoint(folder)
    except ModelLoadError as error:
        refusal = str(error)
    else:
        for name in checkpoint.names():
            decode(checkpoint.tensor(name))
        return
    assert "Fix: " in refusal
    assert "\n" not in refusal
