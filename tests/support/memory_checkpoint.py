"""Random networks in memory, as a `Checkpoint`, and step plans over a paged cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from r1_runtime.architecture.description import (
    DenseFeedForward,
    FeedForward,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    MixtureOfExperts,
    ModelDescription,
    Rope,
    Scoring,
)
from r1_runtime.architecture.weight_names import draft_weight_shapes, weight_shapes
from r1_runtime.checkpoint.source import Encoding, StoredTensor


def rope(dim: int, *, interleaved: bool = False) -> Rope:
    frequencies = 10000.0 ** -(np.arange(0, dim, 2, dtype=np.float32) / dim)
    return Rope(dim, interleaved, tuple(float(value) for value in frequencies))


def grouped(heads: int = 6, kv_heads: int = 2, head_dim: int = 24) -> GroupedQueryAttention:
    scale = head_dim**-0.5
    return GroupedQueryAttention(heads, kv_heads, head_dim, rope(head_dim), scale, qk_norm=True)


def latent(heads: int = 4, q_lora: int | None = 20) -> LatentAttention:
    rotary = rope(8, interleaved=True)
    return LatentAttention(heads, q_lora, 24, 12, 10, rotary, 20**-0.5)


_DENSE = DenseFeedForward(52)
EXPERTS = MixtureOfExperts(
    experts=8,
    experts_per_token=3,
    inner=20,
    shared_inner=40,
    scoring=Scoring.SIGMOID,
    correction_bias=True,
    normalise=True,
    scale=1.5,
    groups=4,
    top_groups=2,
)


def description(
    attention: GroupedQueryAttention | LatentAttention,
    feed_forward: FeedForward = _DENSE,
    layers: int = 2,
    vocab_size: int = 131,
) -> ModelDescription:
    """A small network; no size is a multiple of 16."""
    return ModelDescription(
        family="test",
        vocab_size=vocab_size,
        hidden_size=44,
        norm_eps=1e-5,
        layers=(Layer(attention, feed_forward),) * layers,
        tied_head=False,
        max_positions=8192,
        bos_token_id=None,
        eos_token_ids=(0,),
    )


class MemoryCheckpoint:
    """Random float32 weights of a network.

    Attributes:
        weights: the values, which a test may change.
        stored: tensors in another encoding, which replace those in `weights`.
    """

    def __init__(self, network: ModelDescription, seed: int = 0) -> None:
        self.description = network
        self.stored: dict[str, StoredTensor] = {}
        random = np.random.default_rng(seed)
        self.weights: dict[str, NDArray[np.float32]] = {}
        shapes = weight_shapes(network) | draft_weight_shapes(network)
        for name, shape in sorted(shapes.items()):
            values = random.standard_normal(shape, np.float32)
            if len(shape) == 2:
                values /= np.float32(shape[1] ** 0.5)
            self.weights[name] = 1 + 0.1 * values if "norm" in name else values

    def names(self) -> frozenset[str]:
        return frozenset(self.weights)

    def tensor(self, name: str) -> StoredTensor:
        if name in self.stored:
            return self.stored[name]
        values = self.weights[name]
        return StoredTensor(name, values.shape, Encoding.F32, values.view(np.uint8))

    def release(self, tensor: StoredTensor) -> None:
        """Nothing to release: the tensor is not mapped."""
