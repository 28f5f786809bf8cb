"""Loading of a checkpoint folder: safetensors, sharded or not, in the published layout.

The model is built without initial values; every parameter is then assigned from the files, which are
memory-mapped. The files have one matrix per expert; the loader stacks them. A tensor that is missing,
unknown or of the wrong shape is an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
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
        ModelLoadError: with the invalid file or tensor.
    """
    config = config or read_config(folder)
    model = DeepseekV3(config, max_length)
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        del expected["lm_head.weight"]
    assembly = _Assembly(folder, config, expected)
    for name, tensor in _published_tensors(folder):
        assembly.place(name, tensor)
    state = assembly.complete()
    for name, tensor in state.items():
        wanted = torch.float32 if name.endswith("e_score_correction_bias") else dtype
        state[name] = tensor.to(device=device, dtype=wanted)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    model.load_state_dict(state, strict=True, assign=True)
    if config.tie_word_embeddings:
        # Assignment made two parameters of one tensor; a cast or a training step would separate them.
        model.lm_head.weight = model.embed_tokens.weight
    model.rotary = model.rotary.to(device)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


class _Assembly:
    """Assigns published tensors to the model's parameters and checks that none is missing."""

    def __init__(
        self, folder: Path, config: ModelConfig, expected: Mapping[str, torch.Size]
    ) -> None:
        self._folder = folder
        self._config = config
        self._expected = expected
        self._state: dict[str, Tensor] = {}
        self._parts: dict[str, set[tuple[int, str]]] = {}  # of stacked experts

    def place(self, published: str, tensor: Tensor) -> None:
        name = published.removeprefix("model.")
        if _is_unused(name, self._config):
            return
        match = _EXPERT.fullmatch(name)
        if match:
            self._place_expert(published, tensor, match[1], int(match[2]), match[3])
            return
        self._check(published, tensor, self._expected_shape(published, name))
        self._state[name] = tensor

    def complete(self) -> dict[str, Tensor]:
        """All parameters by name; raises ModelLoadError when one is missing."""
        missing = sorted(self._expected.keys() - self._state.keys())
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelLoadError(self._folder, f"the weights lack {missing[0]}{more}.", _COPY_AGAIN)
        for name, parts in self._parts.items():
            kinds = ("down",) if name.endswith("down_proj") else ("gate", "up")
            wanted = {(i, kind) for i in range(self._expected[name][0]) for kind in kinds}
            lacking = sorted(wanted - parts)
            if lacking:
                expert, kind = lacking[0]
                stem = name.rsplit(".", 1)[0]
                raise ModelLoadError(
                    self._folder, f"the weights lack {stem}.{expert}.{kind}_proj.", _COPY_AGAIN
                )
        return self._state

    def _place_expert(
        self, published: str, tensor: Tensor, stem: str, expert: int, kind: str
    ) -> None:
        target = stem + ("down_proj" if kind == "down" else "gate_up_proj")
        shape = self._expected_shape(published, target)
        if expert >= shape[0]:
            raise ModelLoadError(
                self._folder, f"{published} is above n_routed_experts {shape[0]}.", _COPY_AGAIN
            )
        if target not in self._state:
            self._state[target] = torch.empty(shape, dtype=tensor.dtype)
        slot = self._state[target][expert]
        if kind != "down":
            half = shape[1] // 2
            slot = slot[:half] if kind == "gate" else slot[half:]
        self._check(published, tensor, slot.shape)
        slot.copy_(tensor)
        self._parts.setdefault(target, set()).add((expert, kind))

    def _expected_shape(self, published: str, name: str) -> torch.Size:
        shape = self._expected.get(name)
        if shape is None:
            raise ModelLoadError(
                self._folder,
                f"the weights have {published}, which does not exist in a model of this config.json.",
                _COPY_AGAIN,
            )
        return shape

    def _check(self, published: str, tensor: Tensor, shape: torch.Size) -> None:
        if tensor.shape != shape:
            raise ModelLoadError(
                self._folder,
                f"{published} has shape {list(tensor.shape)}; config.json requires {list(shape)}.",
                "use the config.json that belongs to these weights.",
            )


def _is_unused(name: str, config: ModelConfig) -> bool:
    """Whether the model does not use a tensor: a tied head, a rotary table, an MTP layer."""
    if name == "lm_head.weight":
        return config.tie_word_embeddings
    if name.endswith("rotary_emb.inv_freq"):
        return True
    layer = re.match(r"layers\.(\d+)\.", name)
    return layer is not None and int(layer[1]) >= config.num_hidden_layers


def _published_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of all files; the shard index, if there is one, lists the files."""
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
                raise ModelLoadError(path, "listed in the shard index but missing.", _COPY_AGAIN)
        return files
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(
            folder, "no *.safetensors file.", "put the weights beside config.json."
        )
    return files
