"""Division of a model's weights over ranks: coverage, sizes, and layouts that do not divide."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from r1_runtime.architecture.description import (
    DenseFeedForward,
    GroupedQueryAttention,
    Layer,
    ModelDescription,
)
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.backends.parallel.layout import (
    ParallelLayout,
    check_layout,
    part,
    rank_layers,
    tensor_sizes,
)
from r1_runtime.backends.parallel.loading import load_stage
from r1_runtime.backends.parallel.slices import stages_of, weight_slices
from r1_runtime.errors import OptionError

BIASED = dataclasses.replace(grouped(heads=8), qkv_bias=True, output_bias=True)
MODELS: dict[str, ModelDescription] = {
    "latent, experts": description(latent(), EXPERTS, layers=3),
    "grouped, dense, biases": description(BIASED, DenseFeedForward(52), layers=5),
    "grouped, experts": description(grouped(heads=4), EXPERTS, layers=2),
    "tied head": dataclasses.replace(
        description(grouped(heads=8, kv_heads=8), layers=4), tied_head=True
    ),
}
LAYOUTS = [
    ParallelLayout(tensor, pipeline, whole)
    for tensor in (1, 2, 4)
    for pipeline in (1, 2)
    for whole in (False, True)
]
NAMES = [f"tp{each.tensor} pp{each.pipeline} whole={each.whole_experts}" for each in LAYOUTS]


def expected_copies(name: str, model: ModelDescription, layout: ParallelLayout) -> int:
    """How often each value of a weight is held, over all ranks."""
    *path, module, _ = name.split(".")
    split = "embed_tokens lm_head q_proj q_b_proj kv_b_proj gate_proj up_proj o_proj down_proj"
    copies = 1 if module in split.split() else layout.tensor
    if module in ("k_proj", "v_proj"):
        attention = model.layers[int(path[1])].attention
        assert isinstance(attention, GroupedQueryAttention)
        copies = max(1, layout.tensor // attention.kv_heads)
    tied = name.startswith("embed_tokens") and model.tied_head and layout.pipeline > 1
    return 2 * copies if tied else copies


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_value_of_every_weight_is_held_once_or_on_every_rank_of_its_stage(
    model: ModelDescription, layout: ParallelLayout
) -> None:
    held = {name: np.zeros(shape, int) for name, shape in weight_shapes(model).items()}
    for rank in range(layout.ranks):
        for name, piece in weight_slices(model, layout, rank).items():
            rows = slice(piece.rows.start, piece.rows.stop)
            if piece.columns is None:
                held[name][rows] += 1
            else:
                held[name][rows, piece.columns.start : piece.columns.stop] += 1
    for name, counts in held.items():
        assert (counts == expected_copies(name, model, layout)).all(), name


@pytest.mark.parametrize("layout", LAYOUTS, ids=NAMES)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_modules_of_a_rank_have_the_sizes_of_its_slices(
    model: ModelDescription, layout: ParallelLayout
) -> None:
    checkpoint = MemoryCheckpoint(model)
    for rank in range(layout.ranks):
        stage = load_stage(checkpoint, layout, rank)
        values = sum(parameter.numel() for parameter in stage.state_dict().values())
        slices = weight_slices(model, layout, rank)
        absent = sum(
            shape[0]
            for name, shape in weight_shapes(model).items()
            if name.endswith("o_proj.bias")
            and layout.place(rank).stage in stages_of(name, model, layout)
            and name not in slices
        )
        assert values == sum(piece.size for piece in slices.values()) + absent


def test_the_layers_of_the_stages_are_those_of_the_model() -> None:
    model = MODELS["grouped, dense, biases"]
    layout = ParallelLayout(2, 3)
    stages = [list(rank_layers(model, layout, stage)) for stage in range(3)]
    assert [number for stage in stages for number in stage] == [0, 1, 2, 3, 4]
    assert {len(stage) for stage in stages} == {1, 2}


@pytest.mark.parametrize("size", [1, 7, 131, 129280])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_parts_are_contiguous_and_differ_by_at_most_one(size: int, parts: int) -> None:
    ranges = [part(size, parts, index) for index in range(parts)]
    assert [item for each in ranges for item in each] == list(range(size))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


@pytest.mark.parametrize(
    ("model", "layout", "words"),
    [
        ("latent, experts", ParallelLayout(3), "3 does not divide the model's 4 attention heads"),
        ("latent, experts", ParallelLayout(8), "8 does not divide the model's 4 attention heads"),
        ("grouped, dense, biases", ParallelLayout(8), "52 inner values of a feed-forward layer"),
        ("latent, experts", ParallelLayout(1, 4), "--pipeline-parallel-size is 4.*3 layers"),
    ],
)
def test_a_layout_that_does_not_divide_the_model_is_refused_with_the_sizes_that_do(
    model: str, layout: ParallelLayout, words: str
) -> None:
    with pytest.raises(OptionError, match=words) as refused:
        check_layout(MODELS[model], layout)
    if layout.tensor > 1:
        assert "Fix: 1 or 2 or 4" in str(refused.value)


def test_whole_experts_need_a_number_of_experts_that_the_ranks_divide() -> None:
    six = dataclasses.replace(EXPERTS, experts=6, groups=2, inner=20)
    model = description(latent(), six)
    check_layout(model, ParallelLayout(4))
    with pytest.raises(OptionError, match="6 experts"):
        check_layout(model, ParallelLayout(4, 1, True))
    assert tensor_sizes(model, ParallelLayout(whole_experts=True)) == [1, 2]


def test_key_value_heads_are_repeated_only_where_the_ranks_are_a_multiple() -> None:
    model = dataclasses.replace(
        description(grouped(heads=12, kv_heads=4)),
        layers=(Layer(grouped(heads=12, kv_heads=4), DenseFeedForward(48)),),
    )
    assert tensor_sizes(model, ParallelLayout()) == [1, 2, 4, 12]
    with pytest.raises(OptionError, match="4 key-value heads"):
        check_layout(model, ParallelLayout(6))
