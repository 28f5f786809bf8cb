"""The native step equals the reference backend for every switch of sparse attention and of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from memory_checkpoint import MemoryCheckpoint, description, grouped, latent
from paged_steps import Row, step_plan
from r1_runtime.architecture.description import ModelDescription
from r1_runtime.backends.cpu.backend import Codecs, CpuBackend
from r1_runtime.backends.cpu.library import CacheType, Codec
from r1_runtime.backends.reference.backend import ReferenceBackend
from r1_runtime.backends.reference.loading import load_network
from r1_runtime.backends.step_plan import Backend, StepPlan
from r1_runtime.sparsity.heads import HeadMode, HeadModes, key_heads
from r1_runtime.sparsity.policy import DynamicSparseAttention

NETWORKS = {
    "grouped": description(grouped()),
    "grouped, one head": description(grouped(4, 4, 16)),
    "latent": description(latent()),
    "latent, 50 heads": description(latent(heads=50)),
}
SPARSE = DynamicSparseAttention(sparsity=0.7, from_context=64)
POLICIES = {
    "everything is read": replace(SPARSE, sparsity=0.0),
    "coarse stage": SPARSE,
    "adaptive": replace(SPARSE, sparsity=0.4, adaptive=True, mass=0.6),
    "correction": replace(SPARSE, correction=True),
    "mean keys alone": replace(SPARSE, spread=0.0),
    "prompts": replace(SPARSE, prompts=True),
    "prompts, correction, adaptive": replace(
        SPARSE, sparsity=0.3, prompts=True, correction=True, adaptive=True
    ),
    "no sinks": replace(SPARSE, sink_tokens=0, recent_tokens=48),
}
CODECS = {"int8": CacheType.INT8, "int4": CacheType.INT4, "fp8": CacheType.FLOAT8}
LENGTH, PROMPT = 200, 150
Logprobs = NDArray[np.float32]


def native(
    network: ModelDescription,
    policy: DynamicSparseAttention | None,
    cache_type: CacheType = CacheType.FLOAT32,
    threads: int = 1,
    block_size: int = 16,
) -> CpuBackend:
    codec = Codec.FLOAT32
    return CpuBackend(
        MemoryCheckpoint(network),
        codecs=Codecs(codec, codec, codec, codec),
        cache_type=cache_type,
        blocks=40,
        block_size=block_size,
        threads=threads,
        sparsity=policy,
    )


def reference(
    network: ModelDescription, policy: DynamicSparseAttention | None, codec: str | None = None
) -> ReferenceBackend:
    return ReferenceBackend(
        load_network(MemoryCheckpoint(network)), 40, 16, sparsity=policy, cache_codec=codec
    )


def scored(backend: Backend, chunk: int = 32, block_size: int = 16) -> tuple[Logprobs, int, int]:
    """Log-probability of each next token, and what attention read, over a prompt and its output."""
    text = [int(token) for token in np.random.default_rng(5).integers(1, 130, LENGTH)]
    blocks = np.random.default_rng(3).permutation(40 * 16 // block_size).tolist()
    logprobs, read, context = [], 0, 0
    starts = [*range(0, PROMPT, chunk), *range(PROMPT, LENGTH)]
    for start, end in zip(starts, [*starts[1:], LENGTH], strict=True):
        plan = step_plan([Row(text, start, end, blocks)], block_size)
        result = backend.step(_scoring(plan, text[start + 1 : end + 1]))
        logprobs.append(result.logprobs)
        read += result.attention_tokens[0]
        context += result.attention_tokens[1]
    return np.concatenate(logprobs), read, context


def _scoring(plan: StepPlan, following: Sequence[int]) -> StepPlan:
    targets = np.array([*following, 1][: len(plan.tokens)], np.int32)
    lengths = np.array([PROMPT], np.int32)
    return replace(plan, sampling=replace(plan.sampling, targets=targets), prompt_lengths=lengths)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_native_sparse_attention_equals_the_reference(
    network: ModelDescription, policy: DynamicSparseAttention
) -> None:
    found, read, context = scored(native(network, policy))
    expected, _, _ = scored(reference(network, policy))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (read == context) == (policy.sparsity == 0)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("policy", [None, SPARSE], ids=["dense", "sparse"])
def test_native_packed_cache_equals_the_reference(
    network: ModelDescription, codec: str, policy: DynamicSparseAttention | None
) -> None:
    found, _, _ = scored(native(network, policy, CODECS[codec]))
    expected, _, _ = scored(reference(network, policy, codec))
    # A value halfway between two codes may be rounded to either, after float32 sums in another order.
    assert np.mean(np.abs(found - expected) < 1e-3) > 0.9
    assert np.abs(found - expected).max() < 0.3


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("cache_type", list(CacheType))
@pytest.mark.parametrize("prompts", [False, True])
def test_zero_sparsity_equals_dense_attention(
    network: ModelDescription, cache_type: CacheType, prompts: bool
) -> None:
    policy = replace(SPARSE, sparsity=0.0, prompts=prompts)
    dense, _, _ = scored(native(network, None, cache_type))
    sparse, read, context = scored(native(network, policy, cache_type))
    np.testing.assert_allclose(
        sparse, dense, atol=2e-3 if cache_type > CacheType.BFLOAT16 else 2e-4
    )
    assert read == context > 0


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_sparse_row_depends_neither_on_threads_nor_on_chunks(
    network: ModelDescription, policy: DynamicSparseAttention
) -> None:
    one, read, _ = scored(native(network, policy))
    for threads, chunk, block_size in ((2, 16, 16), (3, 64, 32)):
        other, also_read, _ = scored(
            native(network, policy, threads=threads, block_size=block_size), chunk, block_size
        )
        np.testing.assert_allclose(other, one, atol=2e-5)  # dense rows before the sparse ones
        assert also_read == read


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_head_modes_equal_the_reference(network: ModelDescription) -> None:
    modes = list(HeadMode) * 3
    counts = key_heads(network)
    layers = tuple(tuple(modes[at : at + count]) for at, count in enumerate(counts))
    policy = replace(SPARSE, heads=HeadModes(layers), window=32)
    found, read, context = scored(native(network, policy))
    expected, _, _ = scored(reference(network, policy))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert 0 < read < context


def test_short_context_is_read_whole() -> None:
    policy = replace(SPARSE, from_context=LENGTH + 1)
    dense, _, _ = scored(native(NETWORKS["grouped"], None))
    found, read, context = scored(native(NETWORKS["grouped"], policy))
    np.testing.assert_array_equal(found, dense)
    assert (read, context) == (0, 0)


def generated(row: Row) -> StepPlan:
    """A step of rows that are all generated tokens."""
    return replace(step_plan([row]), prompt_lengths=np.zeros(1, np.int32))


def test_single_row_is_a_generated_token_where_the_plan_has_no_prompt_lengths() -> None:
    network = NETWORKS["grouped"]
    text = list(range(1, 101))
    for backend in (native(network, SPARSE), reference(network, SPARSE)):
        prompt = backend.step(step_plan([Row(text, 0, 99, range(7))]))
        assert prompt.attention_tokens == (0, 0)
    last = native(network, SPARSE).step(step_plan([Row(text, 99, 100, range(7))]))
    assert last.attention_tokens[0] < last.attention_tokens[1]


def test_copied_prefix_blocks_have_their_summaries() -> None:
    """A sequence on cached blocks reads what a sequence that computed them reads."""
    backend = native(NETWORKS["grouped"], SPARSE)
    text = [int(token) for token in np.random.default_rng(6).integers(1, 130, 120)]
    whole = backend.step(generated(Row(text, 0, 120, range(8))))
    again = backend.step(generated(Row(text, 112, 120, [*range(7), 20])))
    np.testing.assert_array_equal(again.logprobs, whole.logprobs[112:])


def test_rejected_drafts_leave_no_trace_in_summaries() -> None:
    network = NETWORKS["grouped"]
    text = [int(token) for token in np.random.default_rng(7).integers(1, 130, 120)]
    drafted = [*text[:92], 5, 6, 7, 8, 9]
    clean, dirty = native(network, SPARSE), native(network, SPARSE)
    for backend in (clean, dirty):
        backend.step(generated(Row(text, 0, 92, range(8))))
    # Fills a unit with tokens that do not stay.
    dirty.step(generated(Row(drafted, 92, 97, range(8))))
    for at in range(92, 120):
        plan = generated(Row(text, at, at + 1, range(8)))
        np.testing.assert_array_equal(dirty.step(plan).logprobs, clean.step(plan).logprobs)
