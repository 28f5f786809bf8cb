"""What the leader assigns to a rank: which model, which division, which cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from r1_runtime.backends.parallel.layout import ParallelLayout


@dataclass(frozen=True, slots=True)
class Assignment:
    """What every rank loads.

    Attributes:
        model: path of the checkpoint; the same on all machines.
        layout: division of the model.
        positions: the longest sequence in tokens, or None for the model's own.
        dtype: data type of weights and computation: `float32` or `bfloat16`.
        device: `cpu`, or `cuda` for one GPU per rank.
        blocks: blocks of the cache.
        block_size: tokens per block.
        threads: CPU threads of a rank.
        store_port: port of the leader at which the ranks find each other.
    """

    model: str
    layout: ParallelLayout
    positions: int | None
    dtype: str
    device: str
    blocks: int
    block_size: int
    threads: int
    store_port: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Assignment:
        fields = json.loads(payload)
        return cls(**fields | {"layout": ParallelLayout(**fields["layout"])})
