"""Values that the torch-free reader returns equal those of torch and of the `safetensors` package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from r1_runtime.checkpoint.decoding import FLOAT8_E4M3, decode
from r1_runtime.checkpoint.open import open_checkpoint
from r1_runtime.checkpoint.source import Encoding, StoredTensor
from r1_runtime.errors import ModelLoadError


def stored(
    encoding: Encoding, tensor: torch.Tensor, scale: torch.Tensor | None = None
) -> StoredTensor:
    data = tensor.view(torch.uint8).flatten().numpy()
    factors = None if scale is None else scale.numpy()
    return StoredTensor("x", tuple(tensor.shape), encoding, data, factors)


@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [
        (Encoding.F32, torch.float32),
        (Encoding.F16, torch.float16),
        (Encoding.BF16, torch.bfloat16),
        (Encoding.F8_E4M3, torch.float8_e4m3fn),
    ],
)
def test_values_of_each_encoding_equal_those_of_torch(
    encoding: Encoding, dtype: torch.dtype
) -> None:
    values = (torch.randn(37, 50, generator=torch.Generator().manual_seed(1)) * 3).to(dtype)
    decoded = decode(stored(encoding, values))
    assert decoded.dtype == np.float32
    assert np.array_equal(decoded, values.float().numpy())


def test_all_256_fp8_codes_equal_those_of_torch() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(FLOAT8_E4M3, codes)


@pytest.mark.parametrize("shape", [(128, 128), (300, 130), (5, 7), (256, 129)])
def test_fp8_values_are_multiplied_by_the_factor_of_their_block(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(shape, generator=generator).to(torch.float8_e4m3fn)
    scale = torch.rand(-(-shape[0] // 128), -(-shape[1] // 128), generator=generator) + 0.1
    wide = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[: shape[0], : shape[1]]
    decoded = decode(stored(Encoding.F8_E4M3, values, scale))
    assert np.array_equal(decoded, (values.float() * wide).numpy())


def test_every_tensor_has_its_published_name_without_model_and_its_values(
    tiny_checkpoint: Path,
) -> None:
    published = load_file(tiny_checkpoint / "model.safetensors")
    checkpoint = open_checkpoint(tiny_checkpoint)
    assert checkpoint.names() == {name.removeprefix("model.") for name in published}
    for name, values in published.items():
        tensor = checkpoint.tensor(name.removeprefix("model."))
        assert tensor.shape == tuple(values.shape)
        assert np.array_equal(decode(tensor), values.float().numpy()), name


def test_released_tensor_is_read_again_from_its_file(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)
    tensor = checkpoint.tensor("layers.1.mlp.experts.3.down_proj.weight")
    before = decode(tensor)
    checkpoint.release(tensor)
    assert np.array_equal(decode(tensor), before)


def test_unknown_name_is_an_error(tiny_checkpoint: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"lack layers\.9\.x"):
        open_checkpoint(tiny_checkpoint).tensor("layers.9.x")


def test_positions_limit_the_description(tiny_checkpoint: Path) -> None:
    assert open_checkpoint(tiny_checkpoint, positions=64).description.max_positions == 64


def fuse_experts(source: Path, target: Path, *, transposed: bool) -> None:
    """Write a copy in which each layer's experts are two tensors."""
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    weights = load_file(source / "model.safetensors")
    stem, parts = "model.layers.1.mlp.experts.", {}
    for kind in ("gate", "up", "down"):
        names = [f"{stem}{expert}.{kind}_proj.weight" for expert in range(8)]
        parts[kind] = torch.stack([weights.pop(name) for name in names])
    gate_up = torch.cat((parts["gate"], parts["up"]), dim=1)
    for name, tensor in (("gate_up_proj", gate_up), ("down_proj", parts["down"])):
        weights[stem + name] = (tensor.mT if transposed else tensor).contiguous()
    save_file(weights, target / "model.safetensors")


def expert_matrices(folder: Path) -> dict[str, NDArray[np.float32]]:
    checkpoint = open_checkpoint(folder)
    return {n: decode(checkpoint.tensor(n)) for n in checkpoint.names() if ".experts." in n}


@pytest.mark.parametrize("transposed", [False, True])
def test_fused_experts_are_one_matrix_per_expert(
    tiny_checkpoint: Path, tmp_path: Path, transposed: bool
) -> None:
    fuse_experts(tiny_checkpoint, tmp_path / "fused", transposed=transposed)
    expected, found = expert_matrices(tiny_checkpoint), expert_matrices(tmp_path / "fused")
    assert len(expected) == 24
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name


def test_fused_experts_are_views_of_the_mapped_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    fuse_experts(tiny_checkpoint, tmp_path / "fused", transposed=False)
    tensor = open_checkpoint(tmp_path / "fused").tensor("layers.1.mlp.experts.3.up_proj.weight")
    assert not tensor.data.flags.owndata
    assert tensor.data.flags.c_contiguous


def test_fused_experts_of_another_shape_are_named(tiny_checkpoint: Path, tmp_path: Path) -> None:
    fuse_experts(tiny_checkpoint, tmp_path / "fused", transposed=False)
    config = tmp_path / "fused" / "config.json"
    raw = json.loads(config.read_text())
    config.write_text(json.dumps(raw | {"moe_intermediate_size": 24}))
    with pytest.raises(ModelLoadError, match=r"experts\.(down|gate_up)_proj has shape \[8, "):
        open_checkpoint(tmp_path / "fused")


def test_layer_of_multi_token_prediction_is_not_read(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((tiny_checkpoint / "config.json").read_text())
    weights = load_file(tiny_checkpoint / "model.safetensors")
    weights["model.layers.2.eh_proj.weight"] = torch.zeros(4, dtype=torch.int8)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).names() == open_checkpoint(tiny_checkpoint).names()


def test_opening_and_decoding_import_no_torch(tiny_checkpoint: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from r1_runtime.checkpoint.decoding import decode;"
        "from r1_runtime.checkpoint.open import open_checkpoint;"
        f"decode(open_checkpoint(Path({str(tiny_checkpoint)!r})).tensor('norm.weight'));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
