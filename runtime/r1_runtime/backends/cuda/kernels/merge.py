"""Merge of attention over parts of a context by their log-sum-exp (flash decoding)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _merge_kernel(
    parts, part_split, part_row, part_head,
    lse, lse_split, lse_row,
    out, out_row, out_head,
    splits,
    VALUE: tl.constexpr,
    VALUE_PAD: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    dim = tl.arange(0, VALUE_PAD)
    mask = dim < VALUE
    from_lse = lse + row * lse_row + head
    from_part = parts + row * part_row + head * part_head + dim
    highest = tl.load(from_lse)
    for split in range(1, splits):
        highest = tl.maximum(highest, tl.load(from_lse + split * lse_split))
    finite = tl.where(highest == float("-inf"), 0.0, highest)
    mixed = tl.zeros((VALUE_PAD,), tl.float32)
    total = 0.0
    for split in range(splits):
        share = tl.exp(tl.load(from_lse + split * lse_split) - finite)
        part = tl.load(from_part + split * part_split, mask=mask, other=0.0).to(tl.float32)
        mixed += share * part
        total += share
    mixed = mixed / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * out_row + head * out_head + dim, mixed.to(out.dtype.element_ty), mask=mask)


def merge_parts(parts: Tensor, lse: Tensor, dtype: torch.dtype) -> Tensor:
    """Attention over the whole context [T, heads, v]; 0 for a row without any position.

    Args:
        parts: [splits, T, heads, v] normalised attention of each part.
        lse: [splits, T, heads] float32, -inf for an empty part.
        dtype: of the result.
    """
    splits, rows, heads, width = parts.shape
    if splits == 1:
        return parts[0].to(dtype)
    out = torch.empty((rows, heads, width), dtype=dtype, device=parts.device)
    if rows:
        _merge_kernel[(rows, heads)](
            parts, parts.stride(0), parts.stride(1), parts.stride(2),
            lse, lse.stride(0), lse.stride(1),
            out, out.stride(0), out.stride(1),
            splits,
            VALUE=width,
            VALUE_PAD=triton.next_power_of_2(width),
        )  # fmt: skip
    return out


def merge_parts_reference(parts: Tensor, lse: Tensor, dtype: torch.dtype) -> Tensor:
    """The same by torch."""
    shares = (lse - lse.max(dim=0).values.nan_to_num(neginf=0.0)).exp()
    total = shares.sum(dim=0)
    mixed = (parts.float() * shares.unsqueeze(-1)).sum(dim=0)
    return (mixed / torch.where(total == 0, 1.0, total).unsqueeze(-1)).to(dtype)
