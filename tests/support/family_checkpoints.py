"""A tiny checkpoint of every model family, with the text that `transformers` generates from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from r1_runtime.architecture.families import read_description
from r1_runtime.architecture.weight_names import draft_weight_shapes
from tiny_checkpoints import (
    quantize_to_fp8,
    with_weights,
    write_deepseek_v2_lite,
    write_deepseek_v3,
    write_deepseek_v32,
    write_llama,
    write_mistral,
    write_qwen2,
    write_qwen3,
    write_qwen3_moe,
)
from tiny_gguf import QWEN2, write_tiny_gguf

PROMPT = "The gateway holds a request until"
GGUF_PROMPT = "abcdefghijkl"  # its vocabulary has letters only


@dataclass(frozen=True, slots=True)
class Family:
    """A checkpoint's folder, and its model and tokenizer in `transformers`."""

    folder: Path
    model: Any
    tokenizer: Any
    prompt: str = PROMPT

    def greedy_text(self, tokens: int) -> str:
        """The most probable continuation of the prompt, without an end before `tokens` tokens."""
        inputs = torch.tensor([self.tokenizer(self.prompt)["input_ids"]])
        length = inputs.shape[1]
        output = self.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        return str(self.tokenizer.decode(output[0, length:], skip_special_tokens=True))


def write_family(name: str, folder: Path) -> Family:
    """Write the checkpoint of a key of `FAMILIES`."""
    return FAMILIES[name](folder)


def _saved(write: Callable[..., Any]) -> Callable[[Path], Family]:
    def make(folder: Path) -> Family:
        return Family(folder, write(folder), _tokenizer(folder))

    return make


def _published_v3(folder: Path) -> Family:
    """V3 as published: FP8 blocks, and a further layer that drafts tokens."""
    # More than one block in both directions, and blocks that are not full.
    sizes = {"hidden_size": 160, "intermediate_size": 272, "moe_intermediate_size": 144}
    write_deepseek_v3(folder, q_lora_rank=136, initializer_range=0.1, **sizes)
    _add_draft_layer(folder)
    values = quantize_to_fp8(folder)
    network = read_description(folder)
    further = f"model.layers.{len(network.layers)}."
    own = {name: value for name, value in values.items() if not name.startswith(further)}
    return Family(folder, with_weights(folder, own), _tokenizer(folder))


def _add_draft_layer(folder: Path) -> None:
    """Add random weights of DeepSeek-V3's layer for a second token, with its published names."""
    config = json.loads((folder / "config.json").read_text()) | {"num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    network = read_description(folder)
    prefix = f"layers.{len(network.layers)}."
    head = (network.vocab_size, network.hidden_size)
    shapes = draft_weight_shapes(network)
    shapes |= {prefix + "embed_tokens.weight": head, prefix + "shared_head.head.weight": head}
    generator = torch.Generator().manual_seed(1)
    added = {
        f"model.{name}": 0.1 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
    path = folder / "model.safetensors"
    save_file(load_file(path) | added, path, metadata={"format": "pt"})


def _gguf(folder: Path) -> Family:
    """A GGUF file, which `transformers` reads as well."""
    import transformers

    folder.mkdir(exist_ok=True)
    write_tiny_gguf(folder / "model.gguf", QWEN2, seed=3)
    read = {"gguf_file": "model.gguf"}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **read)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **read)
    return Family(folder, model.eval(), tokenizer, GGUF_PROMPT)


def _tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], Family]] = {
    "deepseek-v2-lite": _saved(write_deepseek_v2_lite),
    "deepseek-v3": _saved(write_deepseek_v3),
    "deepseek-v3-published": _published_v3,
    "deepseek-v32": _saved(write_deepseek_v32),
    "llama": _saved(write_llama),
    "mistral": _saved(write_mistral),
    "qwen2": _saved(write_qwen2),
    "qwen3": _saved(write_qwen3),
    "qwen3-moe": _saved(write_qwen3_moe),
    "gguf": _gguf,
}
