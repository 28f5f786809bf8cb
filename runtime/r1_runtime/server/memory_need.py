"""Memory that a model needs from the chosen backend and from each of its ranks."""

from __future__ import annotations

from dataclasses import replace

from r1_runtime.architecture.description import ModelDescription
from r1_runtime.backends.cpu.backend import packed_bytes
from r1_runtime.backends.parallel.group import RankGroup
from r1_runtime.backends.parallel.layout import rank_layers
from r1_runtime.backends.parallel.slices import weight_slices
from r1_runtime.backends.selection import BackendChoice
from r1_runtime.checkpoint.source import Checkpoint
from r1_runtime.server.memory import MemoryEstimate, Sizes, estimate_memory


def memory_need(
    checkpoint: Checkpoint, sizes: Sizes, choice: BackendChoice, group: RankGroup
) -> MemoryEstimate:
    """Memory of this process; on a CPU, of all ranks on this machine."""
    description = checkpoint.description
    if choice.backend == "cpu":
        weights = packed_bytes(checkpoint, choice.codecs)
        return estimate_memory(description, sizes, weights, choice.cache_type.size)
    size = 4 if choice.dtype == "float32" else 2
    if group.layout.ranks == 1:
        weights = description.parameter_count() * size
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
