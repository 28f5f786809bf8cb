"""Exchange of tensors between ranks by `torch.distributed`: gloo on CPUs, NCCL on GPUs."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import Store

from r1_runtime.backends.parallel.layout import ParallelLayout, part

STEP_SECONDS = 300.0  # longest wait for another rank within a step


class Communication:
    """The exchanges of one rank. All ranks of a layout create theirs at the same time.

    Args:
        layout: division of the model.
        rank: this rank.
        store: where the ranks find each other.
        device: device of the tensors.
    """

    def __init__(
        self, layout: ParallelLayout, rank: int, store: Store, device: torch.device
    ) -> None:
        self.layout, self.rank, self.device = layout, rank, device
        self.place = layout.place(rank)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=layout.ranks,
            timeout=timedelta(seconds=STEP_SECONDS),
            device_id=device if device.type == "cuda" else None,
        )
        groups = [
            dist.new_group(list(layout.stage_ranks(stage)), timedelta(seconds=STEP_SECONDS))
            for stage in range(layout.pipeline)
        ]
        stage = groups[self.place.stage]
        assert isinstance(stage, dist.ProcessGroup)  # noqa: S101
        self._stage = stage

    @property
    def first(self) -> bool:
        """Whether this rank's stage is the first."""
        return self.place.stage == 0

    @property
    def last(self) -> bool:
        """Whether this rank's stage is the last."""
        return self.place.stage == self.layout.pipeline - 1

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the ranks of this stage, in place."""
        if self.layout.tensor > 1:
            dist.all_reduce(x, group=self._stage)
        return x

    def receive_hidden(self, x: Tensor) -> Tensor:
        """Fill x with the rows of the previous stage."""
        dist.recv(x, self.rank - self.layout.tensor)
        return x

    def send_hidden(self, x: Tensor) -> None:
        """Pass the rows on to the next stage."""
        dist.send(x.contiguous(), self.rank + self.layout.tensor)

    def gather_logits(self, own: Tensor | None, rows: int, vocabulary: int) -> Tensor | None:
        """Logits [rows, vocabulary], float32, of the last stage's parts; on rank 0 only.

        Args:
            own: this rank's part [rows, its share of the vocabulary]; None before the last stage.
            rows: number of rows.
            vocabulary: number of tokens.
        """
        if self.rank != 0:
            if own is not None:
                dist.send(own.contiguous(), 0)
            return None
        parts: list[Tensor] = []
        for index, rank in enumerate(self.layout.stage_ranks(self.layout.pipeline - 1)):
            if rank == 0 and own is not None:
                parts.append(own)
                continue
            width = len(part(vocabulary, self.layout.tensor, index))
            received = torch.empty(rows, width, dtype=torch.float32, device=self.device)
            dist.recv(received, rank)
            parts.append(received)
        return torch.cat(parts, dim=-1)

    def hidden_on_leader(self, own: Tensor | None, rows: int, hidden: int) -> Tensor | None:
        """Normed hidden states [rows, hidden], float32, of the last stage; on rank 0 only.

        Args:
            own: the last stage's states, equal on all its ranks; None before the last stage.
            rows: number of rows.
            hidden: size of a row.
        """
        sender = self.layout.stage_ranks(self.layout.pipeline - 1).start
        if self.rank == sender == 0:
            return own
        if self.rank == sender and own is not None:
            dist.send(own.contiguous(), 0)
        if self.rank != 0:
            return None
        received = torch.empty(rows, hidden, dtype=torch.float32, device=self.device)
        dist.recv(received, sender)
        return received

    def close(self) -> None:
        dist.destroy_process_group()
