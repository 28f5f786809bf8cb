"""Tiny random GGUF models in the layouts of llama.cpp's converters, written by the `gguf` package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize

HIDDEN, INNER, LAYERS = 64, 96, 2
POSITIONS = 256


@dataclass(frozen=True)
class BytePairs:
    """A byte-level vocabulary, followed by two control tokens."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    rule: str = "gpt-2"


@dataclass(frozen=True)
class Pieces:
    """A SentencePiece vocabulary: <unk>, <s>, </s>, 256 bytes, and pieces."""

    pieces: tuple[str, ...]
    scores: tuple[float, ...]


Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class TinyGguf:
    """Metadata without the prefix of the architecture, and shapes as the file's rows and columns."""

    architecture: str
    values: Mapping[str, Any]
    shapes: Shapes
    tied: bool = False
    divisors: tuple[float, ...] = ()
    layers: int = LAYERS


def _letter_pairs() -> BytePairs:
    """Pairs of letters: any sequence of them is valid UTF-8."""
    letters = "abcdefghijklmnop"
    pairs = [first + second for first in letters for second in letters]
    return BytePairs((*pairs, "a", "b"), (("a", "b"),))


def _layers(make: Mapping[str, tuple[int, ...]], start: int = 0, end: int = LAYERS) -> Shapes:
    return {
        f"blk.{layer}.{name}": shape for layer in range(start, end) for name, shape in make.items()
    }


def _dense(end: int = LAYERS) -> Shapes:
    return _layers(
        {
            "ffn_gate.weight": (INNER, HIDDEN),
            "ffn_up.weight": (INNER, HIDDEN),
            "ffn_down.weight": (HIDDEN, INNER),
        },
        end=end,
    )


def _grouped_query(heads: int, kv_heads: int, head_dim: int) -> dict[str, tuple[int, ...]]:
    return {
        "attn_q.weight": (heads * head_dim, HIDDEN),
        "attn_k.weight": (kv_heads * head_dim, HIDDEN),
        "attn_v.weight": (kv_heads * head_dim, HIDDEN),
        "attn_output.weight": (HIDDEN, heads * head_dim),
    }


def _experts(count: int, inner: int, shared: int) -> dict[str, tuple[int, ...]]:
    return {
        "ffn_gate_inp.weight": (count, HIDDEN),
        "ffn_gate_exps.weight": (count, inner, HIDDEN),
        "ffn_up_exps.weight": (count, inner, HIDDEN),
        "ffn_down_exps.weight": (count, HIDDEN, inner),
        "ffn_gate_shexp.weight": (inner * shared, HIDDEN),
        "ffn_up_shexp.weight": (inner * shared, HIDDEN),
        "ffn_down_shexp.weight": (HIDDEN, inner * shared),
    }


_HEADS = {"attention.head_count": 4, "attention.head_count_kv": 2}

LLAMA3 = TinyGguf(
    "llama",
    {**_HEADS, "rope.freq_base": 5000.0, "rope.dimension_count": 16},
    {**_layers(_grouped_query(4, 2, 16)), **_dense()},
    divisors=(1.0, 1.0, 1.25, 2.0, 4.0, 8.0, 8.0, 8.0),
)
LLAMA_LINEAR = TinyGguf(
    "llama",
    {**_HEADS, "rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    {**_layers(_grouped_query(4, 2, 16)), **_dense()},
    tied=True,
)
QWEN2 = TinyGguf(
    "qwen2",
    {**_HEADS, "rope.freq_base": 10000.0},
    {
        **_layers(_grouped_query(4, 2, 16)),
        **_layers({"attn_q.bias": (64,), "attn_k.bias": (32,), "attn_v.bias": (32,)}),
        **_dense(),
    },
    tied=True,
)
QWEN3_YARN = TinyGguf(
    "qwen3",
    {
        **_HEADS,
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 64,
    },
    {
        **_layers(_grouped_query(4, 2, 32)),
        **_layers({"attn_q_norm.weight": (32,), "attn_k_norm.weight": (32,)}),
        **_dense(),
    },
)
_MLA = {
    "attn_kv_a_mqa.weight": (32 + 16, HIDDEN),
    "attn_kv_a_norm.weight": (32,),
    "attn_output.weight": (HIDDEN, 4 * 32),
}
_LITE_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 8.0,
    "rope.scaling.original_context_length": 64,
    "rope.scaling.yarn_log_multiplier": 0.0707,
}
DEEPSEEK_V3 = TinyGguf(
    "deepseek2",
    {
        "attention.head_count": 4,
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": 32,
        "attention.kv_lora_rank": 32,
        "attention.key_length": 32 + 16,
        "attention.value_length": 32,
        "attention.key_length_mla": 32 + 16,
        "attention.value_length_mla": 32,
        "rope.dimension_count": 16,
        **_LITE_YARN,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "leading_dense_block_count": 1,
        "expert_count": 8,
        "expert_used_count": 2,
        "expert_shared_count": 1,
        "expert_feed_forward_length": 32,
        "expert_weights_scale": 2.5,
        "expert_weights_norm": True,
        "expert_gating_func": 2,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
        "vocab_size": 260,
    },
    {
        **_layers(
            {
                **_MLA,
                "attn_q_a.weight": (32, HIDDEN),
                "attn_q_a_norm.weight": (32,),
                "attn_q_b.weight": (4 * 48, 32),
                "attn_k_b.weight": (4, 32, 32),
                "attn_v_b.weight": (4, 32, 32),
            }
        ),
        **_dense(end=1),
        **_layers({**_experts(8, 32, 1), "exp_probs_b.bias": (8,)}, start=1),
    },
)
DEEPSEEK_V2_LITE = TinyGguf(
    "deepseek2",
    {
        "attention.head_count": 4,
        "attention.head_count_kv": 4,
        "attention.kv_lora_rank": 32,
        "attention.key_length": 32 + 16,
        "attention.value_length": 32,
        "rope.dimension_count": 16,
        **_LITE_YARN,
        "leading_dense_block_count": 1,
        "expert_count": 8,
        "expert_used_count": 3,
        "expert_shared_count": 2,
        "expert_feed_forward_length": 32,
        "expert_weights_scale": 1.0,
        "vocab_size": 260,
    },
    {
        **_layers(
            {**_MLA, "attn_q.weight": (4 * 48, HIDDEN), "attn_kv_b.weight": (4 * (32 + 32), 32)},
            end=27,
        ),
        **_dense(end=1),
        **_layers(_experts(8, 32, 2), start=1, end=27),
    },
    layers=27,  # llama.cpp takes a model for V2-Lite (one full query matrix) by its 27 layers
)
TINY_GGUFS = {
    "llama with divisors": LLAMA3,
    "llama with linear scaling": LLAMA_LINEAR,
    "qwen2": QWEN2,
    "qwen3 with yarn": QWEN3_YARN,
    "deepseek v3": DEEPSEEK_V3,
    "deepseek v2 lite": DEEPSEEK_V2_LITE,
}


def write_tiny_gguf(
    path: Path,
    model: TinyGguf,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    *,
    seed: int = 0,
    tensors_per_part: int = 0,
    vocabulary: BytePairs | Pieces | None = None,
    template: str | None = None,
) -> None:
    """Write random weights; matrices in `kind`, vectors and routers in float32.

    Args:
        path: the file.
        model: architecture and shapes.
        kind: encoding of the matrices.
        seed: of the weights.
        tensors_per_part: write numbered parts of so many tensors; 0 for one file.
        vocabulary: None for 258 tokens of letters and two control tokens.
        template: the chat template.
    """
    writer = GGUFWriter(path, model.architecture, split_max_tensors=tensors_per_part)
    values = {
        "block_count": model.layers,
        "context_length": POSITIONS,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.layer_norm_rms_epsilon": 1e-6,
        **model.values,
    }
    for name, value in values.items():
        _add(writer, f"{model.architecture}.{name}", value)
    count = _add_vocabulary(writer, vocabulary or _letter_pairs())
    if template is not None:
        writer.add_chat_template(template)
    shapes: Shapes = {
        "token_embd.weight": (count, HIDDEN),
        "output_norm.weight": (HIDDEN,),
        **({} if model.tied else {"output.weight": (count, HIDDEN)}),
        **_layers({"attn_norm.weight": (HIDDEN,), "ffn_norm.weight": (HIDDEN,)}, end=model.layers),
        **model.shapes,
    }
    random = np.random.default_rng(seed)
    for name, shape in shapes.items():
        tensor = random.standard_normal(shape, np.float32)
        if name.endswith("norm.weight"):
            tensor = 1 + 0.1 * tensor
        elif len(shape) > 1:
            tensor = tensor * np.float32(2 / np.sqrt(shape[-1]))
        if len(shape) > 1 and "gate_inp" not in name:
            writer.add_tensor(name, quantize(tensor.astype(np.float32), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.astype(np.float32))
    if model.divisors:
        writer.add_tensor("rope_freqs.weight", np.array(model.divisors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: GGUFWriter, vocabulary: BytePairs | Pieces) -> int:
    """Add the metadata of a vocabulary; the number of tokens."""
    if isinstance(vocabulary, Pieces):
        pieces = list(vocabulary.pieces)
        writer.add_tokenizer_model("llama")
        writer.add_token_list(pieces)
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(pieces) - 259))
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        return len(pieces)
    tokens = [*vocabulary.tokens, "<s>", "</s>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.rule)
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(vocabulary.tokens) + [3, 3])
    writer.add_token_merges([f"{left} {right}" for left, right in vocabulary.merges])
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    return len(tokens)


def _add(writer: GGUFWriter, name: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    else:
        writer.add_string(name, value)
