"""Where a GGUF file holds each weight of a network.

Converters rename the published tensors, stack the experts of a layer, and for architecture llama
reorder the rows of q_proj and k_proj, so that the rotated pairs are neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from r1_runtime.architecture.description import (
    GroupedQueryAttention,
    LatentAttention,
    ModelDescription,
)

_INTERLEAVED_FAMILIES = ("llama",)

_TOP = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
}
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    **{f"self_attn.{name}_proj": f"attn_{name}" for name in ("q", "k", "v", "q_a", "q_b", "kv_b")},
    **{f"self_attn.{name}_norm": f"attn_{name}_norm" for name in ("q", "k")},
    "self_attn.o_proj": "attn_output",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.gate": "ffn_gate_inp",
    **{f"mlp.{name}_proj": f"ffn_{name}" for name in ("gate", "up", "down")},
    **{f"mlp.shared_experts.{name}_proj": f"ffn_{name}_shexp" for name in ("gate", "up", "down")},
}
_EXPERT = re.compile(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj")


class Part(NamedTuple):
    """One tensor of the file, or the matrix `expert` of a stack."""

    tensor: str
    expert: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The weight's bytes are those of the part."""

    part: Part


@dataclass(frozen=True, slots=True)
class InterleavedRows:
    """The rows of each head alternate between the first and the second half of the published head."""

    part: Part
    heads: int


@dataclass(frozen=True, slots=True)
class SplitLatent:
    """kv_b_proj as two stacks: keys [heads, rank, nope], transposed, and values [heads, v, rank]."""

    keys: Part
    values: Part
    heads: int


Placement = Stored | InterleavedRows | SplitLatent


def place(description: ModelDescription, name: str, tensors: Iterable[str]) -> Placement:
    """The placement of the weight `name`, in a file that has `tensors`."""
    if not name.startswith("layers."):
        stem, _, kind = name.rpartition(".")
        return Stored(Part(f"{_TOP[stem]}.{kind}"))
    _, index, rest = name.split(".", 2)
    block = f"blk.{index}."
    if rest == "mlp.gate.e_score_correction_bias":
        return Stored(Part(block + "exp_probs_b.bias"))
    stem, _, kind = rest.rpartition(".")
    expert = _EXPERT.fullmatch(stem)
    if expert:
        return Stored(Part(f"{block}ffn_{expert[2]}_exps.{kind}", int(expert[1])))
    tensor = f"{block}{_IN_LAYER[stem]}.{kind}"
    attention = description.layers[int(index)].attention
    if stem == "self_attn.kv_b_proj" and isinstance(attention, LatentAttention):
        keys, values = (f"{block}attn_{half}_b.weight" for half in ("k", "v"))
        if tensor not in tensors and keys in tensors:
            return SplitLatent(Part(keys), Part(values), attention.heads)
    if description.family in _INTERLEAVED_FAMILIES and isinstance(attention, GroupedQueryAttention):
        if stem == "self_attn.q_proj":
            return InterleavedRows(Part(tensor), attention.heads)
        if stem == "self_attn.k_proj":
            return InterleavedRows(Part(tensor), attention.kv_heads)
    return Stored(Part(tensor))


def parts(placement: Placement) -> tuple[Part, ...]:
    if isinstance(placement, SplitLatent):
        return placement.keys, placement.values
    return (placement.part,)


def unused(tensors: Iterable[str], used: Mapping[str, object], layers: int) -> list[str]:
    """Tensors that no weight comes from, sorted, without those that a network does not compute with.

    Allowed are the divisors of the rotary frequencies (part of the description), further layers that
    predict tokens ahead (MTP), and a second form of kv_b_proj.
    """
    allowed = re.compile(r"rope_freqs\.weight|blk\.\d+\.attn_(k|v|kv)_b\.weight")

    def is_allowed(name: str) -> bool:
        block = re.match(r"blk\.(\d+)\.", name)
        return bool(allowed.fullmatch(name)) or (block is not None and int(block[1]) >= layers)

    return sorted(name for name in tensors if name not in used and not is_allowed(name))
