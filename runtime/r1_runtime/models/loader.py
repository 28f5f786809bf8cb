"""From a checkpoint folder to a model: safetensors, sharded or not, in the published layout.

The model is built with untouched memory, then every parameter is assigned from the files (read by
mmap), so nothing is initialised only to be overwritten. Experts, one matrix each in the files, are stacked
here. Whatever is missing, left over or of the wrong shape is an error that names the tensor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from r1_runtime.config import ModelConfig, read_config
from r1_runtime.errors import ModelLoadError
from r1_runtime.models.deepseek_v3 import DeepseekV3

_EXPERT = re.compile(r"(.*\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.weight$")
_COPY_AGAIN = "copy the model again."


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: str = "cpu",
    max_length: int | None = None,
    config: ModelConfig | None = None,
) -> DeepseekV3:
    """Load the checkpoint in `folder`, ready for inference.

    Raises:
        ModelLoadError: naming the file or tensor at fault.
    """
    config = config or read_config(folder)
    model = DeepseekV3(config, max_length)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del expected["lm_head.weight"]
    state: dict[str, Tensor] = {}
    for name, tensor in _published_tensors(folder):
        _place(state, name, tensor, config, expected, folder)
    missing = sorted(expected.keys() - state.keys())
    if missing:
        raise ModelLoadError(folder, f"the weights lack {missing[0]}{_more(missing)}.", _COPY_AGAIN)
    for name, tensor in state.items():
        wanted = torch.float32 if name.endswith("e_score_correction_bias") else dtype
        state[name] = tensor.to(device=device, dtype=wanted)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    model.rotary = model.rotary.to(device)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _place(
    state: dict[str, Tensor],
    published: str,
    tensor: Tensor,
    config: ModelConfig,
    expected: dict[str, torch.Size],
    folder: Path,
) -> None:
    """Put one published tensor where the model wants it."""
    name = published.removeprefix("model.")
    if _is_spare(name, config):
        return
    match = _EXPERT.fullmatch(name)
    target = name
    if match:
        stem, kind = match[1], match[3]
        target = stem + ("down_proj" if kind == "down" else "gate_up_proj")
    shape = expected.get(target)
    if shape is None:
        raise ModelLoadError(
            folder,
            f"the weights hold {published}, which config.json has no place for.",
            _COPY_AGAIN,
        )
    if not match:
        _check_shape(published, tensor, shape, folder)
        state[name] = tensor
        return
    expert = int(match[2])
    if expert >= shape[0]:
        raise ModelLoadError(
            folder, f"{published} is beyond n_routed_experts {shape[0]}.", _COPY_AGAIN
        )
    if target not in state:
        state[target] = torch.full(shape, float("nan"), dtype=tensor.dtype)
    slot = state[target][expert]
    if kind != "down":
        half = shape[1] // 2
        slot = slot[:half] if kind == "gate" else slot[half:]
    _check_shape(published, tensor, slot.shape, folder)
    slot.copy_(tensor)


def _is_spare(name: str, config: ModelConfig) -> bool:
    """Tensors that are in checkpoints and not needed: tied heads, tables, the MTP layers."""
    if name == "lm_head.weight":
        return config.tie_word_embeddings
    if name.endswith("rotary_emb.inv_freq"):
        return True
    layer = re.match(r"layers\.(\d+)\.", name)
    return layer is not None and int(layer[1]) >= config.num_hidden_layers


def _check_shape(name: str, tensor: Tensor, shape: torch.Size, folder: Path) -> None:
    if tensor.shape != shape:
        raise ModelLoadError(
            folder,
            f"{name} has shape {list(tensor.shape)}, config.json asks for {list(shape)}.",
            "use the config.json that belongs to these weights.",
        )


def _published_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all files; the shard index, when there is one, says which."""
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelLoadError(
                path, f"not a readable safetensors file ({error}).", _COPY_AGAIN
            ) from error


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelLoadError(index, "not a readable shard index.", _COPY_AGAIN) from error
        files = [folder / name for name in sorted(names)]
        for path in files:
            if not path.is_file():
                raise ModelLoadError(path, "named by the shard index but missing.", _COPY_AGAIN)
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(
            folder, "no *.safetensors file.", "put the weights beside config.json."
        )
    return files
