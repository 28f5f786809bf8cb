"""Whole steps of the CUDA backend against the reference backend, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from interpreted_triton import DEVICE
from memory_checkpoint import (
    EXPERTS,
    MemoryCheckpoint,
    description,
    grouped,
    latent,
)
from paged_steps import Row, step_plan, with_last_outputs
from r1_runtime.backends.cuda.backend import CudaBackend
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.reference.step_layout import step_layout
from r1_runtime.backends.sampling_plan import greedy_plan
from r1_runtime.backends.step_plan import StepPlan
from r1_runtime.checkpoint.source import Checkpoint, Encoding, StoredTensor
from r1_runtime.server.memory_need import cuda_bytes

NETWORKS = {
    "grouped": description(grouped()),
    "grouped, experts": description(grouped(4, 4, 16), EXPERTS),
    "latent": description(latent()),
    "latent, full query matrix, experts": description(latent(q_lora=None), EXPERTS),
}
BLOCKS, TOLERANCE = 40, 1e-3


class BothBackends:
    """The same steps by both backends; equal logits of all tokens."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        max_sequences: int,
        expanded_rows: int,
        max_positions: int = 256,
    ) -> None:
        self.cuda = CudaBackend(
            checkpoint,
            blocks=BLOCKS,
            block_size=16,
            max_positions=max_positions,
            max_sequences=max_sequences,
            device=DEVICE,
            dtype=torch.float32,
            expanded_rows=expanded_rows,
        )
        self._network = load_network(checkpoint, dtype=torch.float32)
        self._caches = ReferenceBackend(self._network, BLOCKS, 16).caches

    def fill(self) -> None:
        """Give both caches the same random values."""
        torch.manual_seed(0)
        with torch.inference_mode():
            for ours, reference in zip(self.cuda.caches, self._caches, strict=True):
                reference.copy_(torch.randn(reference.shape))
                ours[: len(reference)].copy_(reference)

    def step(self, plan: StepPlan) -> None:
        layout = step_layout(plan, 16, torch.device("cpu"))
        expected = self._network.forward_paged(self._caches, layout)
        logits = self.cuda.logits(plan).cpu()
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).integers(1, 130, count)]


def sequences(lengths: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Prompts and their blocks, in an order that is not that of their numbers."""
    free = np.random.default_rng(3).permutation(BLOCKS).tolist()
    return [
        (tokens(length, length), [free.pop() for _ in range(-(-length // 16))])
        for length in lengths
    ]


@pytest.mark.parametrize(
    ("name", "max_sequences", "expanded_rows"),
    [
        ("grouped", 0, 170),
        ("grouped, experts", 8, 170),
        ("latent", 8, 5),
        ("latent, full query matrix, experts", 0, 170),
        ("latent, full query matrix, experts", 8, 5),
    ],
)
def test_prompts_chunks_and_single_rows_have_the_reference_s_logits(
    name: str, max_sequences: int, expanded_rows: int
) -> None:
    both = BothBackends(
        MemoryCheckpoint(NETWORKS[name]), max_sequences=max_sequences, expanded_rows=expanded_rows
    )
    parts = sequences((2, 16, 17, 18, 41))
    both.step(step_plan([Row(each, 0, len(each) - 1, blocks) for each, blocks in parts]))
    both.step(step_plan([Row(each, len(each) - 1, len(each), blocks) for each, blocks in parts]))
    (first, first_blocks), (second, second_blocks) = parts[4], parts[3]
    mixed = [Row(first, 30, 41, first_blocks), Row(second, 17, 18, second_blocks)]
    both.step(with_last_outputs(step_plan(mixed)))


@pytest.mark.parametrize("name", ["grouped", "latent"])
def test_a_context_in_parts_has_the_reference_s_logits(name: str) -> None:
    """Beyond 256 positions, several programs share the context of one row."""
    both = BothBackends(
        MemoryCheckpoint(NETWORKS[name]), max_sequences=2, expanded_rows=64, max_positions=512
    )
    both.fill()
    [(prompt, blocks)] = sequences((300,))
    both.step(step_plan([Row(prompt, 299, 300, blocks)]))


def test_quantised_experts_change_the_logits_little() -> None:
    checkpoint = MemoryCheckpoint(NETWORKS["grouped, experts"])
    plan = step_plan([Row(tokens(9), 0, 9, [3])])
    exact, packed = (
        CudaBackend(
            checkpoint,
            blocks=4,
            block_size=16,
            device=DEVICE,
            dtype=torch.float32,
            int4_experts=int4,
        )
        for int4 in (False, True)
    )
    assert packed.network.weight_bytes < exact.network.weight_bytes
    expected, rounded = exact.logits(plan), packed.logits(plan)
    assert 0 < (rounded - expected).square().mean().sqrt() < 0.3 * expected.std()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
def test_non_finite_values_end_their_own_sequence_only() -> None:
    backend = CudaBackend(
        MemoryCheckpoint(NETWORKS["latent"]),
        blocks=8,
        block_size=16,
        device=DEVICE,
        dtype=torch.float32,
        max_sequences=4,
    )
    prompts = [Row(tokens(5), 0, 4, [2]), Row(tokens(6), 0, 5, [5])]
    backend.step(with_last_outputs(step_plan(prompts)))
    with torch.inference_mode():
        for cache in backend.caches:
            cache[2 * 16] = torch.nan
            cache[5 * 16 + 6 : 6 * 16] = torch.nan  # beyond the context
    decode = [Row(tokens(5), 4, 5, [2]), Row(tokens(6), 5, 6, [5])]
    result = backend.step(step_plan(decode))
    assert result.tokens[0] == -1
    assert result.tokens[1] >= 0


def test_a_step_without_outputs_returns_none() -> None:
    backend = CudaBackend(
        MemoryCheckpoint(NETWORKS["grouped"]),
        blocks=4,
        block_size=16,
        device=DEVICE,
        dtype=torch.float32,
    )
    plan = step_plan([Row(tokens(5), 0, 5, [1])])
    none = replace(plan, output_rows=np.empty(0, np.int32), sampling=greedy_plan(0))
    assert len(backend.step(none).tokens) == 0


class Float8Checkpoint(MemoryCheckpoint):
    """The projections as FP8 with a factor per 128 x 128 block."""

    def tensor(self, name: str) -> StoredTensor:
        stored = super().tensor(name)
        if not name.endswith("_proj.weight"):
            return stored
        rows, columns = stored.shape
        weights = torch.from_numpy(self.weights[name])
        factors = torch.ones(-(-rows // 128), -(-columns // 128))
        for row, column in np.ndindex(*factors.shape):
            span = (slice(row * 128, row * 128 + 128), slice(column * 128, column * 128 + 128))
            factors[row, column] = weights[span].abs().max() / 448
        wide = factors.repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :columns]
        values = (weights / wide).to(torch.float8_e4m3fn).view(torch.uint8).numpy()
        return StoredTensor(name, stored.shape, Encoding.F8_E4M3, values, factors.numpy())


@pytest.mark.parametrize("name", ["grouped, experts", "latent"])
def test_stored_fp8_blocks_have_the_logits_of_their_values(name: str) -> None:
    """More than one block in both directions, and blocks that are not full."""
    network = replace(NETWORKS[name], hidden_size=140, layers=NETWORKS[name].layers[:1])
    checkpoint = Float8Checkpoint(network)
    both = BothBackends(checkpoint, max_sequences=0, expanded_rows=170)
    both.step(step_plan([Row(tokens(6), 0, 6, [3])]))
    assert both.cuda.network.weight_bytes < sum(w.nbytes for w in checkpoint.weights.values())


@pytest.mark.parametrize("name", ["grouped", "latent, full query matrix, experts"])
def test_hidden_states_equal_the_reference_and_a_released_cache_is_allocated_again(
    name: str,
) -> None:
    checkpoint = MemoryCheckpoint(NETWORKS[name])
    cuda = CudaBackend(checkpoint, blocks=BLOCKS, block_size=16, device=DEVICE, dtype=torch.float32)
    reference = ReferenceBackend(load_network(checkpoint), BLOCKS, 16)
    prompt = tokens(20)
    plan = step_plan([Row(prompt, 0, 20, [7, 2])])
    pooled = replace(plan, hidden_rows=np.array([0, 7, 19], np.int32))
    single = with_last_outputs(step_plan([Row(prompt, 19, 20, [7, 2])]))
    both = replace(single, hidden_rows=np.array([0], np.int32))
    for _ in range(2):
        for each in (pooled, single, both):
            ours, expected = cuda.step(each), reference.step(each)
            np.testing.assert_allclose(ours.hidden, expected.hidden, atol=TOLERANCE)
            np.testing.assert_array_equal(ours.tokens, expected.tokens)
        for backend in (cuda, reference):
            backend.release_cache()
            backend.allocate_cache()
    cuda.close()


@pytest.mark.parametrize("int4_experts", [False, True])
def test_estimated_memory_is_that_of_the_loaded_weights(int4_experts: bool) -> None:
    checkpoint = MemoryCheckpoint(NETWORKS["latent, full query matrix, experts"])
    backend = CudaBackend(
        checkpoint,
        blocks=1,
        block_size=16,
        device=DEVICE,
        dtype=torch.bfloat16,
        int4_experts=int4_experts,
    )
    estimated = cuda_bytes(checkpoint, 2, int4_experts=int4_experts)
    assert estimated == pytest.approx(backend.network.weight_bytes, rel=0.1)
