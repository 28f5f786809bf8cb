"""Rows times the matrix of their expert, for all experts in one launch.

Rows are in compressed sparse row form: rows [starts[e], starts[e + 1]) belong to expert e. A dense
matrix is one expert with all rows. Three stored forms:

* dense: the values, in the type of the rows.
* FP8: e4m3 bytes with one factor per row and 128 columns. A checkpoint has one factor per 128 x 128
  block; it is repeated for the block's rows, so that gate and up stack at any size (3 % more bytes).
* INT4: two values of 4 bits in a byte, even column low, minus 8, with one factor per row and 32
  columns.

Quantised values are exact in bfloat16. A step of the inner loop covers one group of columns, and its
factor is applied to the product of that step.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from itertools import pairwise

import torch
import triton
import triton.language as tl
from torch import Tensor

FLOAT8_GROUP = 128
INT4_GROUP = 32


class Form(enum.IntEnum):
    """Stored form of the matrices."""

    DENSE = 0
    FLOAT8 = 1
    INT4 = 2


@dataclass(frozen=True, slots=True)
class ExpertMatrices:
    """Matrices [E, N, K] of E experts.

    Attributes:
        form: how `values` stores them.
        values: [E, N, K], uint8 bytes for FLOAT8; [E, N, ceil(K / 2)] uint8 for INT4.
        scales: [E, N, ceil(K / group)] float32, or None for DENSE.
        columns: K.
    """

    form: Form
    values: Tensor
    scales: Tensor | None
    columns: int

    @property
    def experts(self) -> int:
        return self.values.shape[0]

    @property
    def outputs(self) -> int:
        return self.values.shape[1]

    @property
    def bytes(self) -> int:
        """Bytes of values and factors."""
        scales = 0 if self.scales is None else self.scales.nbytes
        return self.values.nbytes + scales


@dataclass(frozen=True, slots=True)
class RowTiles:
    """Tiles of the rows of each expert, computed on the device without a transfer to the host.

    Attributes:
        starts: [E + 1] int32 first row of each expert.
        first_tiles: [E + 1] int32 first tile of each expert.
        experts: [capacity] int32 expert of each tile; E for tiles beyond the last.
        rows: rows of a tile.
    """

    starts: Tensor
    first_tiles: Tensor
    experts: Tensor
    rows: int


def row_tiles(starts: Tensor, total: int, rows: int) -> RowTiles:
    """Tiles of `rows` rows for experts whose rows begin at `starts` [E + 1], `total` rows in all."""
    experts = len(starts) - 1
    counts = starts[1:] - starts[:-1]
    ends = ((counts + rows - 1) // rows).cumsum(0)
    first = torch.cat((ends.new_zeros(1), ends)).int()
    capacity = min(total, experts) + total // rows
    tile = torch.arange(capacity, device=starts.device)
    return RowTiles(starts, first, torch.searchsorted(ends, tile, right=True).int(), rows)


def tile_rows(total: int, experts: int) -> int:
    """Rows of a tile for `total` rows over `experts` matrices: few rows leave the matrix units idle."""
    mean = -(-total // experts)
    return min(64, max(16, int(triton.next_power_of_2(mean))))


@triton.jit
def _grouped_kernel(
    x, x_row,
    values, value_expert, value_row,
    scales, scale_expert, scale_row,
    out, out_row,
    source, target,
    starts, first_tiles, tile_experts,
    experts, outputs, columns,
    FORM: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    GROUP: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(1)
    expert = tl.load(tile_experts + tile)
    if expert >= experts:
        return
    row = tl.load(starts + expert) + (tile - tl.load(first_tiles + expert)) * ROWS
    row += tl.arange(0, ROWS)
    live = row < tl.load(starts + expert + 1)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    within = output < outputs
    from_row = x + tl.load(source + row, mask=live, other=0).to(tl.int64) * x_row
    wide = expert.to(tl.int64)
    from_value = values + wide * value_expert + output.to(tl.int64) * value_row
    from_scale = scales + wide * scale_expert + output.to(tl.int64) * scale_row
    total = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for begin in range(0, columns, GROUP):
        column = begin + tl.arange(0, GROUP)
        inner = column < columns
        part = tl.load(
            from_row[:, None] + column[None, :], mask=live[:, None] & inner[None, :], other=0.0
        )
        mask = inner[:, None] & within[None, :]
        if FORM == 2:
            byte = tl.load(from_value[None, :] + (column // 2)[:, None], mask=mask, other=0)
            nibble = (byte.to(tl.int32) >> (column % 2 * 4)[:, None]) & 15
            weight = (nibble - 8).to(part.dtype)
        elif FORM == 1:
            byte = tl.load(from_value[None, :] + column[:, None], mask=mask, other=0)
            weight = byte.to(tl.float8e4nv, bitcast=True).to(part.dtype)
        else:
            weight = tl.load(from_value[None, :] + column[:, None], mask=mask, other=0.0)
        product = tl.dot(part, weight, input_precision=PRECISION)
        if FORM != 0:
            factor = tl.load(from_scale + begin // GROUP, mask=within, other=0.0)
            product = product * factor[None, :]
        total += product
    to_row = out + tl.load(target + row, mask=live, other=0).to(tl.int64) * out_row
    tl.store(
        to_row[:, None] + output[None, :],
        total.to(out.dtype.element_ty),
        mask=live[:, None] & within[None, :],
    )


def grouped_matmul(
    x: Tensor, matrices: ExpertMatrices, tiles: RowTiles, source: Tensor, target: Tensor
) -> Tensor:
    """out[target[p]] = x[source[p]] @ matrix of p's expert, transposed: [P, N] in the type of x.

    Args:
        x: [rows, K].
        matrices: the experts' matrices.
        tiles: the P rows by expert.
        source: [P] int32 row of `x`.
        target: [P] int32 row of the result, a permutation.
    """
    out = torch.empty((len(source), matrices.outputs), dtype=x.dtype, device=x.device)
    if not len(source):
        return out
    # The matrix units need 16 rows of a fragment; 4-byte values leave room for fewer columns.
    group = {Form.DENSE: 64, Form.FLOAT8: FLOAT8_GROUP, Form.INT4: INT4_GROUP}[matrices.form]
    outputs = 64 if x.element_size() > 2 or tiles.rows <= 16 else 128
    scales = matrices.values if matrices.scales is None else matrices.scales
    grid = (-(-matrices.outputs // outputs), len(tiles.experts))
    _grouped_kernel[grid](
        x, x.stride(0),
        matrices.values, matrices.values.stride(0), matrices.values.stride(1),
        scales, scales.stride(0), scales.stride(1),
        out, out.stride(0),
        source, target,
        tiles.starts, tiles.first_tiles, tiles.experts,
        matrices.experts, matrices.outputs, matrices.columns,
        FORM=int(matrices.form),
        ROWS=tiles.rows,
        OUTPUTS=outputs,
        GROUP=group,
        PRECISION="ieee" if x.dtype == torch.float32 else "tf32",
        num_warps=4,
        num_stages=3,
    )  # fmt: skip
    return out


def unpack(matrices: ExpertMatrices) -> Tensor:
    """The values as float32 [E, N, K]."""
    values, columns = matrices.values, matrices.columns
    if matrices.scales is None:
        return values.float()
    if matrices.form is Form.FLOAT8:
        plain, group = values.view(torch.float8_e4m3fn).float(), FLOAT8_GROUP
    else:
        pairs = torch.stack((values & 15, values >> 4), dim=-1).flatten(-2)
        plain, group = pairs[..., :columns].float() - 8, INT4_GROUP
    return plain * matrices.scales.repeat_interleave(group, dim=-1)[..., :columns]


def grouped_matmul_reference(
    x: Tensor, matrices: ExpertMatrices, tiles: RowTiles, source: Tensor, target: Tensor
) -> Tensor:
    """The same by torch, expert by expert."""
    out = torch.empty((len(source), matrices.outputs), dtype=x.dtype, device=x.device)
    weights, starts = unpack(matrices), tiles.starts.tolist()
    for expert, (begin, end) in enumerate(pairwise(starts)):
        rows = x[source[begin:end].long()].float()
        out[target[begin:end].long()] = (rows @ weights[expert].T).to(x.dtype)
    return out
