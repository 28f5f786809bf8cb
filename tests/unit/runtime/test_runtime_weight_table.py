"""Backends read the weights of one table: `architecture/weight_names.py`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memory_checkpoint import EXPERTS, MemoryCheckpoint, description, grouped, latent
from r1_runtime.architecture.description import ModelDescription
from r1_runtime.architecture.weight_names import weight_shapes
from r1_runtime.backends.cpu.backend import Codecs, packed_bytes
from r1_runtime.backends.parallel.layout import ParallelLayout
from r1_runtime.backends.parallel.loading import load_stage
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.checkpoint.source import Checkpoint, StoredTensor

NETWORKS = {
    "grouped-query attention, dense": description(grouped()),
    "latent attention, experts": description(latent(), EXPERTS),
    "latent attention, one query matrix": description(latent(q_lora=None), EXPERTS),
}


class RecordingCheckpoint(MemoryCheckpoint):
    """Records the names of the tensors that a backend reads."""

    def __init__(self, network: ModelDescription) -> None:
        super().__init__(network)
        self.read: set[str] = set()

    def tensor(self, name: str) -> StoredTensor:
        self.read.add(name)
        return super().tensor(name)


def native(checkpoint: Checkpoint) -> None:
    packed_bytes(checkpoint, Codecs(None, None, None, None))


def reference(checkpoint: Checkpoint) -> None:
    load_network(checkpoint)


def divided(checkpoint: Checkpoint) -> None:
    for rank in range(4):
        load_stage(checkpoint, ParallelLayout(2, 2), rank)


@pytest.mark.parametrize("load", [native, reference, divided])
@pytest.mark.parametrize("network", NETWORKS)
def test_each_backend_reads_exactly_the_weights_of_the_table(
    network: str, load: Callable[[Checkpoint], None]
) -> None:
    checkpoint = RecordingCheckpoint(NETWORKS[network])
    load(checkpoint)
    assert checkpoint.read == weight_shapes(NETWORKS[network]).keys()
