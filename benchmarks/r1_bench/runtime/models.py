"""GGUF files that both engines read: random networks of stated shapes, and the real small model.

Random weights show speed and nothing else. Their vocabulary has one token per combination of letters, so
that every sequence of tokens is text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = ("F32", "BF16", "Q8_0", "Q4_0")
_LETTERS = "abcdefghijklmnop"
_BLOCK = 32
_DRAWN_ROWS = (
    2048  # rows of a matrix with values of their own; the others repeat them in another order
)


@dataclass(frozen=True)
class RandomModel:
    """A network of llama.cpp's architecture `llama` (dense) or `deepseek2` (latent, experts)."""

    name: str
    hidden: int
    layers: int
    heads: int
    inner: int
    letters: int  # of each token: the vocabulary has 16 ** letters
    context: int = 32768
    kv_heads: int = 0
    head_dim: int = 64
    q_lora: int = 0
    kv_lora: int = 0
    nope: int = 0
    rope: int = 0
    value: int = 0
    experts: int = 0
    used: int = 0
    expert_inner: int = 0
    groups: int = 1
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def vocabulary(self) -> int:
        return int(len(_LETTERS) ** self.letters) + 4


DEMO = RandomModel(
    *("demo-shape 6.7 M", 256, 4, 4, 704, 3),
    q_lora=96, kv_lora=64, nope=32, rope=16, value=32, experts=8, used=2, expert_inner=224, groups=4,
)  # fmt: skip
SMALL = RandomModel(
    *("random 40 M MLA/MoE", 512, 4, 16, 1536, 3),
    q_lora=256, kv_lora=512, nope=64, rope=64, value=64, experts=16, used=4, expert_inner=512, groups=4,
)  # fmt: skip
DENSE = RandomModel("random 1 B dense", 2048, 18, 16, 5632, 4, kv_heads=4, head_dim=128)
MIXTURE = RandomModel(
    *("random 3 B / 0.5 B MoE", 1536, 14, 12, 4096, 4),
    q_lora=512, kv_lora=256, nope=64, rope=32, value=64, experts=64, used=6, expert_inner=736,
)  # fmt: skip
RANDOM_MODELS = {"demo": DEMO, "40m": SMALL, "1b": DENSE, "3b": MIXTURE}


def write_random(model: RandomModel, form: str, path: Path) -> None:
    """Write the network with random weights in one of `FORMATS`."""
    from gguf import GGMLQuantizationType, GGUFWriter, quantize

    kind = GGMLQuantizationType[form]
    architecture = "deepseek2" if model.kv_lora else "llama"
    writer = GGUFWriter(path, architecture)
    for key, value in _metadata(model).items():
        name = f"{architecture}.{key}"
        add = {int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool}
        add[type(value)](name, value)
    _add_vocabulary(writer, model)
    random = np.random.default_rng(7)
    for name, shape in _tensors(model):
        scale = np.float32(0.7 / np.sqrt(shape[-1]))
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        rows = int(np.prod(shape[:-1]))
        drawn = random.standard_normal((min(rows, _DRAWN_ROWS), shape[-1]), np.float32) * scale
        plain = form == "F32" or "gate_inp" in name or shape[-1] % _BLOCK
        stored = drawn if plain else quantize(drawn, kind)
        if rows > len(stored):  # drawing and quantising billions of values would take minutes
            stored = stored[random.integers(0, len(stored), rows)]
        stored = stored.reshape(*shape[:-1], -1)
        writer.add_tensor(name, stored, raw_dtype=None if plain else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _metadata(model: RandomModel) -> dict[str, int | float | bool]:
    values: dict[str, int | float | bool] = {
        "block_count": model.layers,
        "context_length": model.context,
        "embedding_length": model.hidden,
        "feed_forward_length": model.inner,
        "vocab_size": model.vocabulary,
        "attention.head_count": model.heads,
        "attention.head_count_kv": model.kv_heads or 1,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": model.rope or model.head_dim,
    }
    if not model.kv_lora:
        return values
    values |= {
        "attention.kv_lora_rank": model.kv_lora,
        "attention.key_length": model.kv_lora + model.rope,
        "attention.value_length": model.kv_lora,
        "attention.key_length_mla": model.nope + model.rope,
        "attention.value_length_mla": model.value,
        "leading_dense_block_count": 1,
        "expert_count": model.experts,
        "expert_used_count": model.used,
        "expert_shared_count": 1,
        "expert_feed_forward_length": model.expert_inner,
        "expert_weights_scale": 1.0,
        "expert_weights_norm": True,
        "expert_gating_func": 2,
        "expert_group_count": model.groups,
        "expert_group_used_count": max(1, model.groups // 2),
    }
    if model.q_lora:
        values["attention.q_lora_rank"] = model.q_lora
    return values


def _add_vocabulary(writer: Any, model: RandomModel) -> None:
    words = ["".join(each) for each in itertools.product(_LETTERS, repeat=model.letters)]
    tokens = [*words, "a", "b", "ab", "<end>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_add_bos_token(False)


def _tensors(model: RandomModel) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = model.hidden
    yield "token_embd.weight", (model.vocabulary, hidden)
    yield "output_norm.weight", (hidden,)
    yield "output.weight", (model.vocabulary, hidden)
    for layer in range(model.layers):
        names = [*_attention(model), *_feed_forward(model, layer)]
        yield from ((f"blk.{layer}.{name}", shape) for name, shape in names)


def _attention(model: RandomModel) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, heads = model.hidden, model.heads
    yield "attn_norm.weight", (hidden,)
    yield "ffn_norm.weight", (hidden,)
    if not model.kv_lora:
        yield "attn_q.weight", (heads * model.head_dim, hidden)
        yield "attn_k.weight", (model.kv_heads * model.head_dim, hidden)
        yield "attn_v.weight", (model.kv_heads * model.head_dim, hidden)
        yield "attn_output.weight", (hidden, heads * model.head_dim)
        return
    query = heads * (model.nope + model.rope)
    if model.q_lora:
        yield "attn_q_a.weight", (model.q_lora, hidden)
        yield "attn_q_a_norm.weight", (model.q_lora,)
        yield "attn_q_b.weight", (query, model.q_lora)
    else:
        yield "attn_q.weight", (query, hidden)
    yield "attn_kv_a_mqa.weight", (model.kv_lora + model.rope, hidden)
    yield "attn_kv_a_norm.weight", (model.kv_lora,)
    yield "attn_k_b.weight", (heads, model.kv_lora, model.nope)
    yield "attn_v_b.weight", (heads, model.value, model.kv_lora)
    yield "attn_output.weight", (hidden, heads * model.value)


def _feed_forward(model: RandomModel, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden = model.hidden
    if not model.experts or layer == 0:
        yield "ffn_gate.weight", (model.inner, hidden)
        yield "ffn_up.weight", (model.inner, hidden)
        yield "ffn_down.weight", (hidden, model.inner)
        return
    count, inner = model.experts, model.expert_inner
    yield "ffn_gate_inp.weight", (count, hidden)
    yield "exp_probs_b.bias", (count,)
    yield "ffn_gate_exps.weight", (count, inner, hidden)
    yield "ffn_up_exps.weight", (count, inner, hidden)
    yield "ffn_down_exps.weight", (count, hidden, inner)
    yield "ffn_gate_shexp.weight", (inner, hidden)
    yield "ffn_up_shexp.weight", (inner, hidden)
    yield "ffn_down_shexp.weight", (hidden, inner)
