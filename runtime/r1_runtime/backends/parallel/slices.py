"""Which part of each weight a rank holds: a pure function of description, layout and rank.

Within a stage, a matrix is split by outputs (rows) or by inputs (columns), so that the product of
the two needs one sum over the stage's ranks. Norms, routers and the low-rank projections of latent
attention are small: every rank of the stage holds them whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from r1_runtime.architecture.description import (
    GroupedQueryAttention,
    MixtureOfExperts,
    ModelDescription,
)
from r1_runtime.architecture.weight_names import Shape, weight_shapes
from r1_runtime.backends.parallel.layout import ParallelLayout, part

_BY_OUTPUTS = frozenset(
    [
        "embed_tokens",
        "lm_head",
        "q_proj",
        "q_b_proj",
        "kv_b_proj",
        "k_proj",
        "v_proj",
        "gate_proj",
        "up_proj",
    ]
)
_BY_INPUTS = frozenset({"o_proj", "down_proj"})
_KEY_VALUE = frozenset({"k_proj", "v_proj"})


@dataclass(frozen=True, slots=True)
class WeightSlice:
    """Part of a weight: rows of a vector or matrix, and columns of a matrix."""

    rows: range
    columns: range | None

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.rows) * (1 if self.columns is None else len(self.columns))


def weight_slices(
    description: ModelDescription, layout: ParallelLayout, rank: int
) -> dict[str, WeightSlice]:
    """The part of each weight that a rank holds, by the weight's name.

    A bias after a sum over the stage is absent on all its ranks but the first: it is added once.
    """
    place = layout.place(rank)
    found: dict[str, WeightSlice] = {}
    for name, shape in weight_shapes(description).items():
        if place.stage in stages_of(name, description, layout):
            piece = _slice(name, shape, description, layout, place.index)
            if piece is not None:
                found[name] = piece
    return found


def stages_of(name: str, description: ModelDescription, layout: ParallelLayout) -> tuple[int, ...]:
    """The stages that use a weight. A tied embedding serves the first stage and the last."""
    last = layout.pipeline - 1
    if name.startswith("layers."):
        number, depth = int(name.split(".", 2)[1]), len(description.layers)
        stages = range(layout.pipeline)
        return tuple(s for s in stages if number in part(depth, layout.pipeline, s))
    if name.startswith("embed_tokens"):
        return (0, last) if description.tied_head and last else (0,)
    return (last,)


def local_experts(experts: int, layout: ParallelLayout, index: int) -> range:
    """The experts of which a rank holds weights, by its index within the stage."""
    return part(experts, layout.tensor, index) if layout.whole_experts else range(experts)


def _slice(
    name: str, shape: Shape, description: ModelDescription, layout: ParallelLayout, index: int
) -> WeightSlice | None:
    rows = range(shape[0])
    columns = range(shape[1]) if len(shape) > 1 else None
    *path, module, kind = name.split(".")
    whole = WeightSlice(rows, columns)
    if "experts" in path and layout.whole_experts:
        mixture = description.layers[int(path[1])].feed_forward
        assert isinstance(mixture, MixtureOfExperts)  # noqa: S101
        return whole if int(path[-1]) in local_experts(mixture.experts, layout, index) else None
    if module in _BY_OUTPUTS:
        parts = layout.tensor
        if module in _KEY_VALUE:
            attention = description.layers[int(path[1])].attention
            assert isinstance(attention, GroupedQueryAttention)  # noqa: S101
            parts = min(parts, attention.kv_heads)
        return WeightSlice(part(shape[0], parts, index * parts // layout.tensor), columns)
    if module in _BY_INPUTS:
        if kind == "bias":
            return whole if index == 0 else None
        return WeightSlice(rows, part(shape[1], layout.tensor, index))
    return whole
