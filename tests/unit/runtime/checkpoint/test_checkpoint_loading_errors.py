"""Checkpoints that do not load: one line that names the file or field and the fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.errors import ModelLoadError
from r1_runtime.generation_config import GenerationDefaults, read_generation_defaults


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    target = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, target)
    return target


def change_config(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "deepseek_v32"}, "model_type is 'deepseek_v32'"),
        ({"hidden_size": -4}, "hidden_size is -4"),
        ({"n_group": 3}, "not a multiple of n_group"),
    ],
)
def test_invalid_config_json_names_the_file_and_the_field(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    change_config(folder, **changes)
    with pytest.raises(ModelLoadError, match=rf"config\.json: .*{words}.* Fix: "):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ("[]", "not a JSON object"),
        ('{"temperature": "hot"}', "temperature is 'hot'"),
        ('{"temperature": -1}', "temperature is -1"),
        ('{"top_p": 0}', "top_p is 0"),
        ('{"top_p": true}', "top_p is True"),
        ('{"max_new_tokens": 0}', "max_new_tokens is 0"),
        ('{"eos_token_id": ["x"]}', "eos_token_id is"),
    ],
)
def test_invalid_generation_config_names_the_field(folder: Path, text: str, words: str) -> None:
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(ModelLoadError, match=words):
        read_generation_defaults(folder)


def test_generation_config_gives_the_defaults_of_requests(folder: Path) -> None:
    assert read_generation_defaults(folder) == GenerationDefaults()
    recommended = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [1, 5]}
    recommended |= {"bos_token_id": 0, "top_k": 40, "repetition_penalty": 1.0, "min_p": None}
    (folder / "generation_config.json").write_text(json.dumps(recommended))
    assert read_generation_defaults(folder) == GenerationDefaults(
        0.6, 0.95, top_k=40, eos_ids=(1, 5)
    )


def test_ignored_fields_of_generation_config_are_logged_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ignored = {"do_sample": False, "num_beams": 4, "bad_words_ids": [[5]], "x" * 90: "\n"}
    silent = {
        "temperature": 0.6,
        "top_k": None,
        "transformers_version": "5.0",
        "length_penalty": 1.0,
    }
    (folder / "generation_config.json").write_text(json.dumps(ignored | silent))
    read_generation_defaults(folder)
    (record,) = caplog.records
    message = record.getMessage()
    assert "bad_words_ids=[[5]], do_sample=False, num_beams=4" in message
    assert "\n" not in message
    assert not any(
        name in message for name in ("temperature", "top_k", "version", "length_penalty")
    )


def test_generation_config_without_further_fields_logs_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = {"do_sample": True, "eos_token_id": 1, "presence_penalty": 0.5}
    (folder / "generation_config.json").write_text(json.dumps(fields))
    assert read_generation_defaults(folder).presence_penalty == 0.5
    assert not caplog.records


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:100])

    return cut


def empty(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes(b"")

    return cut


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("weights")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("config.json"), "config.json is missing"),
        (remove("model.safetensors"), "no \\*.safetensors file"),
        (truncate("config.json"), "not readable as JSON"),
        (truncate("model.safetensors"), "not a readable safetensors file"),
        (empty("model.safetensors"), "not a readable safetensors file .* empty"),
        (pickled, "pytorch_model.bin has another format.* Fix: convert the weights"),
        (shutil.rmtree, "no such folder.* Fix: mount or download"),
        (file_instead, "neither a folder nor a \\*.gguf file"),
    ],
)
def test_missing_and_broken_files_are_named(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(folder)
    with pytest.raises(ModelLoadError, match=words):
        open_checkpoint(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ModelLoadError, match=r"lack norm\.weight"):
        open_checkpoint(folder)


def test_missing_expert_is_named(folder: Path) -> None:
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    edit_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(ModelLoadError, match=r"lack layers\.1\.mlp\.experts\.3\.up_proj"):
        open_checkpoint(folder)


def test_unknown_tensor_is_named(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"model.extra": torch.zeros(1)}))
    with pytest.raises(ModelLoadError, match=r"model\.extra"):
        open_checkpoint(folder)


def test_a_wrong_shape_is_named_with_both_shapes(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.zeros(5)}))
    with pytest.raises(ModelLoadError, match=r"shape \[5\]; config.json requires \[64\]"):
        open_checkpoint(folder)


def test_a_sharded_checkpoint_opens_by_its_index(folder: Path, tiny_checkpoint: Path) -> None:
    shard(folder)
    whole, parts = open_checkpoint(tiny_checkpoint), open_checkpoint(folder)
    assert parts.names() == whole.names()
    for name in whole.names():
        assert np.array_equal(parts.tensor(name).data, whole.tensor(name).data), name


@pytest.mark.parametrize(
    "text", ["[", "[]", '{"weight_map": {"a": 5}}', '{"weight_map": {"a": "../x"}}']
)
def test_a_damaged_shard_index_is_named(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelLoadError, match=r"index\.json: not (a readable shard index|.*JSON)"):
        open_checkpoint(folder)


def test_further_weight_files_beside_model_safetensors_are_not_read(folder: Path) -> None:
    (folder / "consolidated.safetensors").write_bytes(b"another layout")
    open_checkpoint(folder)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[]", "not a JSON object"),
        (b'{"a": 5}', "not a readable safetensors file"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', "has 4 bytes, F32"),
        (b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}', "a ends at byte"),
        (b'{"a": {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]}}', "unknown type F3"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}', "a ends at byte"),
    ],
)
def test_a_damaged_header_is_named(folder: Path, header: bytes, words: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(
        ModelLoadError, match=rf"model\.safetensors: not a readable .*{words}|{words}"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**63])
def test_an_impossible_header_length_is_named(folder: Path, length: int) -> None:
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelLoadError, match=f"a header of {length} bytes"):
        open_checkpoint(folder)


def test_a_type_that_is_not_implemented_is_named(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(folder, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    with pytest.raises(ModelLoadError, match=rf"{name} is stored as I8"):
        open_checkpoint(folder)


def test_an_fp8_matrix_without_its_factors_is_named(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(
        folder, lambda weights: weights.update({name: weights[name].to(torch.float8_e4m3fn)})
    )
    with pytest.raises(ModelLoadError, match=rf"{name}_scale_inv is missing"):
        open_checkpoint(folder)


def test_factors_of_a_matrix_that_is_not_fp8_are_named(folder: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight_scale_inv"
    edit_weights(folder, lambda weights: weights.update({name: torch.ones(1, 1)}))
    with pytest.raises(ModelLoadError, match=name):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"b\.safetensors: listed in the shard index"):
        open_checkpoint(folder)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


def shard(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    path.unlink()
    names = sorted(weights)
    places = {
        name: ("a" if index % 2 else "b") + ".safetensors" for index, name in enumerate(names)
    }
    for file in set(places.values()):
        save_file({name: weights[name] for name in names if places[name] == file}, folder / file)
    index = {"weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
