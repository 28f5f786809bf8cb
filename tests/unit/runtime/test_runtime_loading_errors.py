"""Checkpoints that do not load: one line that names the file or field and the fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from r1_runtime.config import read_config
from r1_runtime.errors import ModelLoadError
from r1_runtime.generation_config import GenerationDefaults, read_generation_defaults
from r1_runtime.models.loader import load_model
from r1_runtime.models.tokenizer import ChatTokenizer


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    target = tmp_path / "model"
    shutil.copytree(tiny_checkpoint, target)
    return target


def change_config(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / "config.json").read_text())
    raw |= changes
    raw = {name: value for name, value in raw.items() if value != "drop"}
    (folder / "config.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llama", "architectures": ["Llama"]}, "model_type is 'llama'"),
        ({"model_type": "deepseek_v32"}, "model_type is 'deepseek_v32'"),
        ({"architectures": ["DeepseekV32ForCausalLM"]}, "architectures is"),
        ({"model_type": "drop", "architectures": "drop"}, "model_type is 'none'"),
        ({"index_topk": 2048, "index_n_heads": 64}, "index_topk is set, but sparse"),
        ({"use_sliding_window": True}, "use_sliding_window is set"),
        ({"vocab_size": "drop"}, "vocab_size is missing"),
        ({"hidden_size": -4}, "hidden_size is -4"),
        ({"hidden_size": "big"}, "hidden_size is 'big'"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
        ({"topk_method": "greedy"}, "topk_method is 'greedy'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"moe_layer_freq": 2}, "moe_layer_freq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope type 'linear'"),
        ({"rope_scaling": {"type": "yarn"}}, "yarn rope parameters"),
        ({"eos_token_id": "end"}, "eos_token_id is 'end'"),
        ({"n_group": 3}, "not a multiple of n_group"),
        ({"n_group": 8}, "fewer than 2 experts"),
        ({"topk_group": 5}, "topk_group 5 is above n_group 2"),
        ({"num_experts_per_tok": 8}, "num_experts_per_tok 8 is above"),
        ({"qk_rope_head_dim": 7}, "qk_rope_head_dim 7 is not even"),
    ],
)
def test_invalid_config_json_names_the_field(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    change_config(folder, **changes)
    with pytest.raises(ModelLoadError, match=words) as caught:
        read_config(folder)
    assert "Fix: " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "drop"},
        {"architectures": "drop"},
        {"sliding_window": None, "use_sliding_window": False},
    ],
)
def test_model_type_or_architectures_suffices_and_disabled_mechanisms_are_accepted(
    folder: Path, changes: dict[str, Any]
) -> None:
    change_config(folder, **changes)
    read_config(folder)


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


def test_generation_config_is_read_and_unimplemented_parameters_are_listed(folder: Path) -> None:
    assert read_generation_defaults(folder) == GenerationDefaults()
    recommended = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "eos_token_id": [1, 5]}
    recommended |= {"bos_token_id": 0, "top_k": 40, "repetition_penalty": 1.0, "min_p": None}
    (folder / "generation_config.json").write_text(json.dumps(recommended))
    assert read_generation_defaults(folder) == GenerationDefaults(
        0.6, 0.95, eos_ids=(1, 5), not_applied=("top_k=40",)
    )


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:100])

    return cut


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (remove("config.json"), "config.json is missing"),
        (remove("model.safetensors"), "no \\*.safetensors file"),
        (remove("tokenizer.json"), "tokenizer.json is missing"),
        (truncate("config.json"), "not readable as JSON"),
        (truncate("model.safetensors"), "not a readable safetensors file"),
        (truncate("tokenizer.json"), "not a readable tokenizer"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_missing_and_broken_files_are_named(
    folder: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(folder)
    with pytest.raises(ModelLoadError, match=words):
        load_everything(folder)


def load_everything(folder: Path) -> None:
    config = read_config(folder)
    ChatTokenizer(folder, config)
    load_model(folder, dtype=torch.float32, config=config)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ModelLoadError, match=r"lack norm\.weight"):
        load_everything(folder)


def test_missing_expert_is_named(folder: Path) -> None:
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    edit_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(ModelLoadError, match=r"lack layers\.1\.mlp\.experts\.3\.up_proj"):
        load_everything(folder)


def test_unknown_tensor_is_named(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"model.extra": torch.zeros(1)}))
    with pytest.raises(ModelLoadError, match=r"model\.extra"):
        load_everything(folder)


def test_a_wrong_shape_is_named_with_both_shapes(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"model.norm.weight": torch.zeros(5)}))
    with pytest.raises(ModelLoadError, match=r"shape \[5\]; config.json requires \[64\]"):
        load_everything(folder)


def test_a_sharded_checkpoint_loads_by_its_index(folder: Path, tiny_checkpoint: Path) -> None:
    shard(folder)
    whole = load_model(tiny_checkpoint, dtype=torch.float32).state_dict()
    for name, value in load_model(folder, dtype=torch.float32).state_dict().items():
        assert torch.equal(value, whole[name]), name


def test_a_missing_shard_is_named(folder: Path) -> None:
    shard(folder)
    (folder / "b.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"b\.safetensors: listed in the shard index"):
        load_everything(folder)


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
