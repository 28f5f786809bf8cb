"""From an assignment to a loaded rank: the same steps on the leader and on every other rank."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch._C._distributed_c10d import Store, TCPStore

from r1_runtime.backends.parallel.assignment import Assignment
from r1_runtime.backends.parallel.communication import STEP_SECONDS, Communication
from r1_runtime.backends.parallel.loading import load_stage
from r1_runtime.backends.parallel.stage import RankBackend
from r1_runtime.checkpoint.open import open_checkpoint

_STEP_LIMIT = timedelta(seconds=STEP_SECONDS)


@dataclass(frozen=True, slots=True)
class LoadedRank:
    """A rank that is ready for steps."""

    backend: RankBackend
    communication: Communication


def rank_device(assignment: Assignment, local: int) -> torch.device:
    """The device of the rank that is number `local` on its machine."""
    if assignment.device == "cpu":
        return torch.device("cpu")
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def rank_store(host: str, port: int, ranks: int, *, leader: bool) -> TCPStore:
    """The store at which the ranks find each other; the leader serves it."""
    return TCPStore(host, port, ranks, leader, _STEP_LIMIT, wait_for_workers=False)


def load_rank(assignment: Assignment, rank: int, local: int, store: Store) -> LoadedRank:
    """Join the other ranks and load this rank's layers.

    Args:
        assignment: the same on all ranks.
        rank: number of this rank.
        local: its number on this machine.
        store: see `rank_store`.
    """
    torch.set_num_threads(assignment.threads)
    device = rank_device(assignment, local)
    communication = Communication(assignment.layout, rank, store, device)
    checkpoint = open_checkpoint(Path(assignment.model), positions=assignment.positions)
    stage = load_stage(
        checkpoint,
        assignment.layout,
        rank,
        dtype=getattr(torch, assignment.dtype),
        device=device,
    )
    backend = RankBackend(stage, communication, assignment.blocks, assignment.block_size)
    return LoadedRank(backend, communication)
