"""A tiny checkpoint of every model family, with the text that `transformers` generates from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize
from safetensors.torch import load_file, save_file

from r1_runtime.architecture.families import read_description
from r1_runtime.architecture.weight_names import draft_weight_shapes
from r1_runtime.training.tokenizer import CHAT_TEMPLATE
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

MESSAGES: list[Any] = [
    {"role": "user", "content": "What does the gateway do until a replica is ready?"}
]
_SMALLEST_GAP = 0.02  # between the two best logits: rounding decides no token


@dataclass(frozen=True, slots=True)
class Family:
    """A checkpoint's folder, and its model and tokenizer in `transformers`."""

    folder: Path
    model: Any
    tokenizer: Any

    def greedy_text(self, tokens: int) -> str:
        """The most probable answer to `MESSAGES` of `tokens` tokens, without an earlier end."""
        rendered = self.tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True)
        inputs = torch.tensor([rendered["input_ids"]])
        length = inputs.shape[1]
        output = self.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            output_logits=True,
            return_dict_in_generate=True,
        )
        best = torch.stack(output.logits).topk(2).values
        gap = float((best[..., 0] - best[..., 1]).min())
        assert gap > _SMALLEST_GAP, f"{self.folder.name}: {gap}; choose another seed"
        text = self.tokenizer.decode(output.sequences[0, length:], skip_special_tokens=True)
        return str(text)


def write_family(name: str, folder: Path) -> Family:
    """Write the checkpoint of a key of `FAMILIES`."""
    return FAMILIES[name](folder)


def _saved(write: Callable[..., Any], seed: int = 0) -> Callable[[Path], Family]:
    def make(folder: Path) -> Family:
        return Family(folder, write(folder, seed=seed), _tokenizer(folder))

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
    """A GGUF file in Q8_0: Qwen2 with the names and the vocabulary of llama.cpp's converter."""
    saved = folder / "saved"
    # Rows of whole blocks of 32 values.
    model = write_qwen2(saved, seed=3, hidden_size=64, intermediate_size=96)
    writer = GGUFWriter(folder / "model.gguf", "qwen2")
    _add_metadata(writer, saved)
    values: dict[str, torch.Tensor] = {}
    for name, weight in model.state_dict().items():
        array, kind = weight.numpy(), GGMLQuantizationType.F32
        if array.ndim == 2:
            kind = GGMLQuantizationType.Q8_0
            array = quantize(array, kind)
        values[name] = torch.from_numpy(dequantize(array, kind)).reshape(weight.shape)
        writer.add_tensor(_gguf_name(name), array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.load_state_dict(values)
    return Family(folder, model, _tokenizer(saved))


def _add_metadata(writer: GGUFWriter, saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    stored = json.loads((saved / "tokenizer.json").read_text())
    vocabulary: dict[str, int] = stored["model"]["vocab"]
    control = {one["content"] for one in stored["added_tokens"] if one["special"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in control else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in stored["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_chat_template(CHAT_TEMPLATE)


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_name(name: str) -> str:
    for part, short in _GGUF_NAMES.items():
        name = name.replace(part, short)
    return name


def _tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], Family]] = {
    "deepseek-v2-lite": _saved(write_deepseek_v2_lite, seed=3),
    "deepseek-v3": _saved(write_deepseek_v3),
    "deepseek-v3-published": _published_v3,
    "deepseek-v32": _saved(write_deepseek_v32, seed=2),
    "llama": _saved(write_llama, seed=16),
    "mistral": _saved(write_mistral, seed=11),
    "qwen2": _saved(write_qwen2, seed=4),
    "qwen3": _saved(write_qwen3),
    "qwen3-moe": _saved(write_qwen3_moe, seed=11),
    "gguf": _gguf,
}
