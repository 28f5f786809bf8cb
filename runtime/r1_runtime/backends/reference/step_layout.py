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
from r1_runtime.sparsity.heads import HeadMode
from r1_runtime.sparsity.policy import DynamicSparseAttention


@dataclass(frozen=True, slots=True)
class SequenceRows:
    """Rows [begin, end) of a step: adjacent tokens of one sequence.

    Attributes:
        context: [S] slots of the sequence's tokens, by position; these rows included.
        visible: [end - begin, S] True where a row attends to a position.
        prompt_length: position from which rows are generated tokens.
    """

    begin: int
    end: int
    context: Tensor
    visible: Tensor
    prompt_length: int = 0


@dataclass(frozen=True, slots=True)
class StepLayout:
    """Tensors of one step of T rows.

    Attributes:
        tokens: [T] tokens.
        positions: [T] position of each row in its sequence.
        slots: [T] slot of each row.
        sequences: the rows of each sequence.
        output_rows: rows whose logits are computed.
        sparsity: policy of sparse attention, or None.
        cache_codec: codec of the cache, or None for the network's data type.
        layer: number of the layer that reads this.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    sequences: tuple[SequenceRows, ...]
    output_rows: Tensor
    sparsity: DynamicSparseAttention | None = None
    cache_codec: str | None = None
    layer: int = 0

    def head_mode(self, head: int) -> HeadMode:
        """Mode of a key head of this layer under the policy."""
        heads = None if self.sparsity is None else self.sparsity.heads
        return HeadMode.SPARSE if heads is None else heads.layers[self.layer][head]


def step_layout(
    plan: StepPlan,
    block_size: int,
    device: torch.device,
    sparsity: DynamicSparseAttention | None = None,
    cache_codec: str | None = None,
) -> StepLayout:
    """The layout of a plan on a device."""

    def tensor(values: NDArray[np.int32]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    slots: list[NDArray[np.int32]] = []
    sequences: list[SequenceRows] = []
    generated = plan.generated_from()
    for index, length in enumerate(plan.context_lengths):
        begin, end = plan.query_starts[index : index + 2]
        blocks = plan.blocks[plan.block_starts[index] : plan.block_starts[index + 1]]
        context = (blocks[:, None] * block_size + np.arange(block_size)).reshape(-1)[:length]
        positions = plan.positions[begin:end]
        slots.append(context[positions])
        visible = np.arange(length) <= positions[:, None]
        sequences.append(
            SequenceRows(
                int(begin),
                int(end),
                tensor(context),
                torch.from_numpy(visible).to(device),
                int(generated[index]),
            )
        )
    return StepLayout(
        tokens=tensor(plan.tokens),
        positions=tensor(plan.positions),
        slots=tensor(np.concatenate(slots)),
        sequences=tuple(sequences),
        output_rows=tensor(plan.output_rows),
        sparsity=sparsity,
        cache_codec=cache_codec,
    )
