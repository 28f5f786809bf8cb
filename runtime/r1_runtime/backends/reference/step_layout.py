"""The arrays of a `StepPlan` as the layers need them: for each sequence its rows and cache slots.

A slot is the place of one token in the cache: block number x block size + place in the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r1_runtime.backends.step_plan import StepPlan


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """Rows [begin, end) of a step: adjacent tokens of one sequence.

    Attributes:
        context: [S] slots of the sequence's tokens, by position; these rows included.
        visible: [end - begin, S] True where a row attends to a position.
    """

    begin: int
    end: int
    context: Tensor
    visible: Tensor


@dataclass(frozen=True, slots=True)
class StepLayout:
    """Tensors of one step of T rows.

    Attributes:
        tokens: [T] tokens.
        positions: [T] position of each row in its sequence.
        slots: [T] slot of each row.
        sequences: the rows of each sequence.
        output_rows: rows whose logits are computed.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    sequences: tuple[SequenceRows, ...]
    output_rows: Tensor


def step_layout(plan: StepPlan, block_size: int, device: torch.device) -> StepLayout:
    """The layout of a plan on a device."""

    def tensor(values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    slots: list[NDArray[np.int32]] = []
    sequences: list[SequenceRows] = []
    for index, length in enumerate(plan.context_lengths):
        begin, end = plan.query_starts[index : index + 2]
        blocks = plan.blocks[plan.block_starts[index] : plan.block_starts[index + 1]]
        context = (blocks[:, None] * block_size + np.arange(block_size)).reshape(-1)[:length]
        positions = plan.positions[begin:end]
        slots.append(context[positions])
        visible = np.arange(length) <= positions[:, None]
        sequences.append(
            SequenceRows(
                int(begin), int(end), tensor(context), torch.from_numpy(visible).to(device)
            )
        )
    return StepLayout(
        tokens=tensor(plan.tokens),
        positions=tensor(plan.positions),
        slots=tensor(np.concatenate(slots)),
        sequences=tuple(sequences),
        output_rows=tensor(plan.output_rows),
    )
