"""The grouped matrix product of the CUDA backend against its specification."""

from __future__ import annotations

import pytest
import torch

from interpreted_triton import DEVICE
from r1_runtime.backends.cuda.kernels.grouped_matmul import (
    ExpertMatrices,
    Form,
    grouped_matmul,
    grouped_matmul_reference,
    row_tiles,
    tile_rows,
    unpack,
)
from r1_runtime.backends.cuda.packing import pack_float8, pack_int4


def packed(form: Form, weights: torch.Tensor) -> ExpertMatrices:
    columns = weights.shape[2]
    if form is Form.DENSE:
        return ExpertMatrices(form, weights, None, columns)
    return pack_float8(weights) if form is Form.FLOAT8 else pack_int4(weights)


@pytest.mark.parametrize("form", list(Form))
@pytest.mark.parametrize(
    ("counts", "outputs", "columns"),
    [((3, 0, 40, 1), 131, 200), ((0, 0, 0, 2), 20, 44), ((64, 17), 20, 130)],
)
def test_rows_times_the_matrix_of_their_expert(
    form: Form, counts: tuple[int, ...], outputs: int, columns: int
) -> None:
    torch.manual_seed(0)
    total = sum(counts)
    matrices = packed(form, torch.randn(len(counts), outputs, columns, device=DEVICE))
    starts = torch.tensor([0, *counts], device=DEVICE).cumsum(0).int()
    source = torch.randint(0, 5, (total,), device=DEVICE, dtype=torch.int32)
    target = torch.randperm(total, device=DEVICE).int()
    x = torch.randn(5, columns, device=DEVICE)
    tiles = row_tiles(starts, total, tile_rows(total, len(counts)))
    result = grouped_matmul(x, matrices, tiles, source, target)
    expected = grouped_matmul_reference(x, matrices, tiles, source, target)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


def test_every_row_lies_in_one_tile() -> None:
    starts = torch.tensor([0, 0, 33, 33, 49, 50], device=DEVICE, dtype=torch.int32)
    tiles = row_tiles(starts, 50, 16)
    experts = tiles.experts.tolist()
    assert experts[:5] == [1, 1, 1, 3, 4]
    assert set(experts[5:]) <= {5}
    assert tiles.first_tiles.tolist() == [0, 0, 3, 3, 4, 5]


def test_the_tiles_of_a_step_have_a_bound_that_needs_no_counts() -> None:
    for counts in ([16] * 4, [1] * 64, [64], [0, 17, 0, 47]):
        starts = torch.tensor([0, *counts], device=DEVICE).cumsum(0).int()
        tiles = row_tiles(starts, sum(counts), 16)
        assert tiles.first_tiles[-1] <= len(tiles.experts)


@pytest.mark.parametrize(("form", "bound"), [(Form.FLOAT8, 0.04), (Form.INT4, 0.12)])
def test_a_packed_matrix_has_the_error_of_its_bits(form: Form, bound: float) -> None:
    torch.manual_seed(0)
    weights = torch.randn(2, 30, 300, device=DEVICE)
    matrices = packed(form, weights)
    error = (unpack(matrices) - weights).square().mean().sqrt() / weights.square().mean().sqrt()
    assert error < bound
    assert matrices.bytes < weights.nbytes * (0.3 if form is Form.FLOAT8 else 0.2)
