"""Memory that a model needs from the chosen backend and from each of its ranks."""

from __future__ import annotations

import math
from dataclasses import replace

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.backends.cpu.backend import packed_bytes
from r1_runtime.backends.cpu.cache_size import block_bytes
from r1_runtime.backends.parallel.group import RankGroup
from r1_runtime.backends.parallel.layout import rank_layers
from r1_runtime.backends.parallel.slices import weight_slices
from r1_runtime.backends.selection import BackendChoice
from r1_runtime.checkpoint.source import Checkpoint, Encoding, StoredTensor
from r1_runtime.server.expert_policy import ALL_EXPERTS, ExpertPolicy, with_most_experts
from r1_runtime.server.memory import MemoryEstimate, Sizes, estimate_memory


def memory_need(
    checkpoint: Checkpoint,
    sizes: Sizes,
    choice: BackendChoice,
    group: RankGroup,
    *,
    with_draft_layer: bool = False,
    experts: ExpertPolicy = ALL_EXPERTS,
) -> MemoryEstimate:
    """Memory of this process; on a CPU, of all ranks on this machine.

    Experts that are mapped from a file need none: the kernel may reclaim their pages.
    """
    description = with_most_experts(checkpoint.description, experts.gate)
    draft = description.draft_layer if with_draft_layer else None
    if draft is not None:
        description = replace(description, layers=(*description.layers, draft))
    if choice.backend == "cpu":
        weights = packed_bytes(
            checkpoint,
            choice.codecs,
            with_draft_layer=with_draft_layer,
            resident_experts=experts.resident_fraction,
        )
        block = block_bytes(description, choice.cache_type, sizes.block_size, choice.sparsity)
        return replace(estimate_memory(description, sizes, weights, 0), block=block)
    size = 4 if choice.dtype == "float32" else 2
    if group.layout.ranks == 1:
        projection = 2 * description.hidden_size**2 if draft is not None else 0
        weights = (description.parameter_count() + projection) * size
        if choice.backend == "cuda":
            weights = cuda_bytes(checkpoint, size, int4_experts=choice.int4_experts)
        return estimate_memory(description, sizes, weights, size)
    each = [_rank_memory(description, sizes, group, rank, size) for rank in group.local_ranks]
    combine = sum if choice.device == "cpu" else max
    return MemoryEstimate(
        weights=combine(need.weights for need in each),
        step=combine(need.step for need in each),
        block=combine(need.block for need in each),
    )


def _rank_memory(
    description: ModelDescription, sizes: Sizes, group: RankGroup, rank: int, size: int
) -> MemoryEstimate:
    layout = group.layout
    layers = rank_layers(description, layout, layout.place(rank).stage)
    weights = sum(piece.size for piece in weight_slices(description, layout, rank).values()) * size
    return estimate_memory(
        replace(description, layers=tuple(layers.values())), sizes, weights, size
    )


def cuda_bytes(checkpoint: Checkpoint, size: int, *, int4_experts: bool) -> int:
    """Bytes of the weights that the CUDA backend loads; the layer that drafts tokens is not loaded."""
    names = weight_shapes(checkpoint.description).keys() & checkpoint.names()
    stored = (checkpoint.tensor(name) for name in names)
    return sum(_cuda_tensor_bytes(each, size, int4_experts=int4_experts) for each in stored)


def _cuda_tensor_bytes(stored: StoredTensor, size: int, *, int4_experts: bool) -> int:
    """FP8 and INT4 have float32 factors for 128 and 32 values of a row."""
    values = math.prod(stored.shape)
    # Latent attention multiplies by parts of `kv_b_proj`, which are therefore decoded.
    if stored.encoding is Encoding.F8_E4M3 and ".kv_b_proj." not in stored.name:
        return values + 4 * -(-values // 128)
    if int4_experts and ".mlp.experts." in stored.name:
        return values // 2 + 4 * -(-values // 32)
    return values * size
