"""Division of a network over ranks, by sizes alone.

The ranks of a stage are adjacent and hold equal parts of every matrix (tensor parallelism). Stages
hold adjacent layers and pass the hidden rows on (pipeline parallelism).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    Layer,
    ModelDescription,
)
from r1_runtime.errors import OptionError


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a rank: its index within the stage, and the stage."""

    index: int
    stage: int


@dataclass(frozen=True, slots=True)
class ParallelLayout:
    """Sizes of the division.

    Attributes:
        tensor: ranks per stage.
        pipeline: stages.
        whole_experts: a rank holds whole experts (expert parallelism), not a part of every expert.
    """

    tensor: int = 1
    pipeline: int = 1
    whole_experts: bool = False

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline

    def place(self, rank: int) -> Place:
        return Place(rank % self.tensor, rank // self.tensor)

    def stage_ranks(self, stage: int) -> range:
        """The ranks of a stage."""
        return range(stage * self.tensor, (stage + 1) * self.tensor)

    def describe(self) -> str:
        """The division in words."""
        experts = "whole experts" if self.whole_experts else "parts of each expert"
        return (
            f"{self.ranks} ranks compute the model: {self.pipeline} stages of {self.tensor} ranks, "
            f"which hold {experts}."
        )


def part(size: int, parts: int, index: int) -> range:
    """The contiguous part `index` of `size` items; sizes differ by at most one."""
    return range(size * index // parts, size * (index + 1) // parts)


def check_layout(description: ModelDescription, layout: ParallelLayout) -> None:
    """Raise OptionError where the sizes do not divide the network."""
    depth = len(description.layers)
    if layout.pipeline > depth:
        raise OptionError(
            f"command line: --pipeline-parallel-size is {layout.pipeline}, but the model has {depth} "
            f"layers. Fix: at most {depth}."
        )
    obstacle = next(_obstacles(description, layout), None)
    if obstacle is not None:
        raise OptionError(
            f"command line: --tensor-parallel-size {layout.tensor} does not divide the model's "
            f"{obstacle}. Fix: {' or '.join(map(str, tensor_sizes(description, layout)))}, with "
            "--pipeline-parallel-size for more ranks."
        )


def tensor_sizes(description: ModelDescription, layout: ParallelLayout) -> list[int]:
    """All tensor parallel sizes that divide the network."""
    most = min(layer.attention.heads for layer in description.layers)
    sizes = range(1, most + 1)
    return [
        size for size in sizes if not any(_obstacles(description, replace(layout, tensor=size)))
    ]


def _obstacles(description: ModelDescription, layout: ParallelLayout) -> Iterator[str]:
    """What the tensor parallel size does not divide."""
    tensor = layout.tensor
    for layer in dict.fromkeys(description.layers):
        for count, name in _divided(layer, layout):
            if count % tensor:
                yield f"{count} {name}"
        attention = layer.attention
        if isinstance(attention, GroupedQueryAttention):
            heads = attention.kv_heads  # with fewer than ranks, several ranks hold the same head
            if heads % tensor and tensor % heads:
                yield f"{heads} key-value heads"


def _divided(layer: Layer, layout: ParallelLayout) -> Iterator[tuple[int, str]]:
    yield layer.attention.heads, "attention heads"
    feed_forward = layer.feed_forward
    if isinstance(feed_forward, DenseFeedForward):
        yield feed_forward.inner, "inner values of a feed-forward layer"
        return
    yield feed_forward.shared_inner, "inner values of the shared experts"
    if layout.whole_experts:
        yield feed_forward.experts, "experts"
    else:
        yield feed_forward.inner, "inner values of an expert"


def rank_layers(
    description: ModelDescription, layout: ParallelLayout, stage: int
) -> dict[int, Layer]:
    """The layers of a stage by number, with the sizes that one of its ranks computes.

    With whole experts, a mixture keeps the number of all experts: the router chooses among them.
    """
    numbers = part(len(description.layers), layout.pipeline, stage)
    return {number: _rank_layer(description.layers[number], layout) for number in numbers}


def _rank_layer(layer: Layer, layout: ParallelLayout) -> Layer:
    tensor, attention, feed_forward = layout.tensor, layer.attention, layer.feed_forward
    if isinstance(attention, GroupedQueryAttention):
        attention = replace(
            attention,
            heads=attention.heads // tensor,
            kv_heads=max(1, attention.kv_heads // tensor),
        )
    else:
        attention = replace(attention, heads=attention.heads // tensor)
    if isinstance(feed_forward, DenseFeedForward):
        return Layer(attention, DenseFeedForward(feed_forward.inner // tensor))
    return Layer(
        attention,
        replace(
            feed_forward,
            inner=feed_forward.inner // (1 if layout.whole_experts else tensor),
            shared_inner=feed_forward.shared_inner // tensor,
        ),
    )
