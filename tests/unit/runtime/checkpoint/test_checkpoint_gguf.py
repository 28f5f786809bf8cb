"""GGUF files: what the reader returns equals what the `gguf` package reads, and damage is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, GGUFWriter, dequantize

from r1_runtime.architecture.description import GroupedQueryAttention
from r1_runtime.checkpoint.block_decoding import BLOCK_ENCODINGS
from r1_runtime.checkpoint.block_formats import BLOCK_FORMATS
from r1_runtime.checkpoint.decoding import decode
from r1_runtime.checkpoint.gguf_file import GgufCheckpoint
from r1_runtime.checkpoint.gguf_header import GgufStrings, read_header
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Encoding, StoredTensor
from r1_runtime.errors import ModelLoadError
from tiny_gguf import (
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    LLAMA3,
    QWEN2,
    QWEN3_YARN,
    TINY_GGUFS,
    TinyGguf,
    write_tiny_gguf,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, LLAMA3)
    return path


def test_header_equals_that_of_the_gguf_package(file: Path) -> None:
    header, reader = read_header(file), GGUFReader(file)
    fields = {name: item for name, item in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.metadata.keys() == fields.keys()
    for name, field in fields.items():
        value: Any = header.metadata[name]
        if isinstance(value, GgufStrings):
            value = value.decode()
        elif isinstance(value, np.ndarray):
            value = value.tolist()
        expected = field.contents()
        assert value == (pytest.approx(expected) if isinstance(expected, float) else expected), name
    assert list(header.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        own = header.tensors[tensor.name]
        assert own.shape == tuple(tensor.shape.tolist())[::-1]
        assert (own.offset, own.size) == (tensor.data_offset, tensor.n_bytes)


def test_decimal_metadata_have_the_shortest_decimal_of_their_float32(file: Path) -> None:
    assert GgufCheckpoint(file).description.norm_eps == 1e-6


@pytest.mark.parametrize("encoding", BLOCK_ENCODINGS)
def test_block_sizes_and_values_equal_those_of_the_gguf_package(encoding: Encoding) -> None:
    kind = GGMLQuantizationType[encoding.name]
    block = BLOCK_FORMATS[encoding]
    assert tuple(block) == GGML_QUANT_SIZES[kind]
    rows, columns = 37, 512
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (rows, columns // block.values * block.bytes), np.uint8)
    with np.errstate(all="ignore"):  # some random factors are infinite
        tensor = StoredTensor("x", (rows, columns), encoding, values.reshape(-1))
        decoded = decode(tensor)
        np.testing.assert_array_equal(decoded, dequantize(values, kind))
    assert decoded.shape == (rows, columns)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_matrices_stay_as_stored(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, QWEN2, GGMLQuantizationType[kind])
    checkpoint, reader = GgufCheckpoint(path), GGUFReader(path)
    name = "layers.1.mlp.up_proj.weight"
    tensor = checkpoint.tensor(name)
    (original,) = (item for item in reader.tensors if item.name == "blk.1.ffn_up.weight")
    assert tensor.encoding.name == kind
    assert tensor.data.tobytes() == original.data.tobytes()
    np.testing.assert_array_equal(
        decode(tensor), dequantize(original.data, original.tensor_type).reshape(tensor.shape)
    )


def test_rotary_rows_of_llama_are_those_of_the_published_checkpoint(tmp_path: Path) -> None:
    """The converter of llama.cpp reshapes a head to (2, dim / 2) and swaps both."""
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, LLAMA3, GGMLQuantizationType.Q8_0)
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for name, tensor, heads in (("q", "attn_q", 4), ("k", "attn_k", 2)):
        published = GgufCheckpoint(path).tensor(f"layers.0.self_attn.{name}_proj.weight")
        assert published.encoding is Encoding.Q8_0
        converted = decode(published).reshape(heads, 2, 8, -1).swapaxes(1, 2)
        original = stored[f"blk.0.{tensor}.weight"]
        expected = dequantize(original.data, original.tensor_type)
        np.testing.assert_array_equal(converted.reshape(expected.shape), expected)


def test_both_layouts_of_the_latent_matrix_give_the_same_values(tmp_path: Path) -> None:
    split, whole = tmp_path / "split.gguf", tmp_path / "whole.gguf"
    write_tiny_gguf(split, DEEPSEEK_V3)
    name = "layers.1.self_attn.kv_b_proj.weight"
    joined = decode(GgufCheckpoint(split).tensor(name))
    stored = {tensor.name: tensor.data for tensor in GGUFReader(split).tensors}
    keys, values = stored["blk.1.attn_k_b.weight"], stored["blk.1.attn_v_b.weight"]
    per_head = joined.reshape(4, 64, 32)
    np.testing.assert_array_equal(per_head[:, :32], keys.swapaxes(1, 2))
    np.testing.assert_array_equal(per_head[:, 32:], values)
    write_tiny_gguf(whole, DEEPSEEK_V2_LITE)
    assert GgufCheckpoint(whole).tensor(name).shape == joined.shape


def test_each_expert_is_one_matrix_of_the_stack(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, DEEPSEEK_V3, GGMLQuantizationType.Q8_0)
    (stack,) = (
        item for item in GGUFReader(path).tensors if item.name == "blk.1.ffn_up_exps.weight"
    )
    for expert in range(8):
        tensor = GgufCheckpoint(path).tensor(f"layers.1.mlp.experts.{expert}.up_proj.weight")
        assert tensor.data.tobytes() == stack.data[expert].tobytes()


@pytest.mark.parametrize("name", TINY_GGUFS)
def test_every_weight_of_the_network_is_readable_after_its_release(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, TINY_GGUFS[name])
    checkpoint = open_checkpoint(path)
    for weight in checkpoint.names():
        tensor = checkpoint.tensor(weight)
        before = decode(tensor)
        checkpoint.release(tensor)
        np.testing.assert_array_equal(decode(checkpoint.tensor(weight)), before)
        assert before.shape == tensor.shape


def test_numbered_parts_are_one_model(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.gguf", tmp_path / "parts"
    parts.mkdir()
    write_tiny_gguf(whole, LLAMA3)
    write_tiny_gguf(parts / "model.gguf", LLAMA3, tensors_per_part=8)
    files = sorted(parts.glob("*.gguf"))
    assert len(files) > 2
    one, several = open_checkpoint(whole), open_checkpoint(parts)
    assert one.description == several.description
    for name in one.names():
        np.testing.assert_array_equal(decode(one.tensor(name)), decode(several.tensor(name)))
    with pytest.raises(ModelLoadError, match="part 2 of .* Fix: point --model-path at part 1"):
        open_checkpoint(files[1])
    files[-1].unlink()
    with pytest.raises(ModelLoadError, match=f"part {files[-1].name} is missing"):
        open_checkpoint(parts)


def test_folder_with_two_models_is_refused(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_tiny_gguf(tmp_path / name, QWEN2)
    with pytest.raises(ModelLoadError, match=r"2 GGUF models: a\.gguf, b\.gguf"):
        open_checkpoint(tmp_path)


def test_serving_length_limits_the_positions(file: Path) -> None:
    assert open_checkpoint(file).description.max_positions == 256
    assert open_checkpoint(file, positions=100).description.max_positions == 100


def test_head_size_biases_and_norms_come_from_the_file(tmp_path: Path) -> None:
    seen = []
    for name, model in (("a", QWEN2), ("b", QWEN3_YARN), ("c", LLAMA3)):
        write_tiny_gguf(tmp_path / f"{name}.gguf", model)
        description = open_checkpoint(tmp_path / f"{name}.gguf").description
        attention = description.layers[0].attention
        assert isinstance(attention, GroupedQueryAttention)
        seen.append(
            (attention.head_dim, attention.qkv_bias, attention.qk_norm, description.tied_head)
        )
    assert seen == [(16, True, False, True), (32, False, True, False), (16, False, False, False)]


def test_opening_a_file_imports_neither_torch_nor_the_gguf_package(file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from r1_runtime.checkpoint.open import open_checkpoint;"
        "from r1_runtime.checkpoint.decoding import decode;"
        f"c = open_checkpoint(Path({str(file)!r})); decode(c.tensor('norm.weight'));"
        "print({'torch', 'gguf', 'transformers'} & sys.modules.keys())"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert output.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "not readable"),
        (lambda data: b"PK\x03\x04" + data[4:], "not a GGUF file"),
        (lambda data: data[:4] + b"\x09\0\0\0" + data[8:], "GGUF version 9 is not implemented"),
        (lambda data: data[:200], "the file ends within its header"),
        (lambda data: data[:-1000], "truncated"),
        (lambda data: data.replace(b"llama", b"bloom"), "architecture 'bloom' is not implemented"),
        (
            lambda data: data.replace(b"blk.1.ffn_up.w", b"blk.1.ffn_xp.w"),
            "ffn_up.weight is missing",
        ),
    ],
)
def test_damaged_or_foreign_file_is_named(
    file: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ModelLoadError, match=words):
        open_checkpoint(file)


def test_unknown_tensor_type_is_named_with_the_implemented_ones(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    kind = GGMLQuantizationType.IQ4_XS
    data = np.zeros((4, GGML_QUANT_SIZES[kind][1]), np.uint8)
    writer.add_tensor("token_embd.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelLoadError, match=r"type IQ4_XS, which is not implemented.*Q4_K"):
        open_checkpoint(path)


def _without(model: TinyGguf, value: str) -> TinyGguf:
    values = {name: item for name, item in model.values.items() if name != value}
    return replace(model, values=values)


def _with(model: TinyGguf, **values: Any) -> TinyGguf:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return replace(model, values={**model.values, **named})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (_with(LLAMA3, expert_count=4), "expert_count is set"),
        (_with(LLAMA3, logit_scale=0.5), "logit_scale is set"),
        (_with(LLAMA3, attention__sliding_window=64), "sliding_window is set"),
        (_with(LLAMA3, rope__scaling__type="longrope"), "'longrope' is not implemented"),
        (_with(LLAMA3, rope__dimension_count=8), "rope.dimension_count is 8"),
        (_with(LLAMA3, feed_forward_length=64), "ffn_gate.weight has shape .96, 64.*.64, 64. for"),
        (_with(LLAMA3, block_count=2**31), "block_count 2147483648 is above"),
        (_with(DEEPSEEK_V3, expert_count=2**31), "expert_count is 2147483648, but"),
        (_with(QWEN3_YARN, attention__key_length=2**31, attention__value_length=2**31), "rotates"),
        (_without(LLAMA3, "attention.head_count"), "attention.head_count is missing"),
        (_with(DEEPSEEK_V3, expert_gating_func=3), "expert_gating_func 3"),
        (_with(DEEPSEEK_V3, expert_used_count=5), "above the number of eligible experts 4"),
        (_with(DEEPSEEK_V3, expert_group_count=3), "8 experts in 3 groups"),
        (replace(LLAMA3, divisors=(1.0, 2.0)), "rope_freqs.weight has shape"),
        (
            replace(LLAMA3, shapes={**LLAMA3.shapes, "blk.0.attn_sinks.weight": (4,)}),
            r"tensor blk\.0\.attn_sinks\.weight \(1 such\) has no place",
        ),
    ],
)
def test_unimplemented_metadata_and_tensors_are_refused(
    tmp_path: Path, model: TinyGguf, words: str
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_gguf(path, model)
    with pytest.raises(ModelLoadError, match=words):
        open_checkpoint(path)


def test_layers_that_predict_tokens_ahead_are_no_part_of_the_network(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    model = _with(DEEPSEEK_V3, nextn_predict_layers=1)
    write_tiny_gguf(path, replace(model, layers=3))
    assert len(open_checkpoint(path).description.layers) == 2
